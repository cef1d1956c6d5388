import gc

from fastapi.testclient import TestClient

from app.main import build_routes, create_app
from app.settings import Settings


def test_the_first_request_builds_no_routes() -> None:
    """Count the objects that remain after it. FastAPI's routes are more than 20,000 objects."""
    app = create_app(Settings())
    build_routes(app)
    gc.collect()
    num_objects = len(gc.get_objects())
    client = TestClient(app)
    assert [client.get(path).status_code for path in ("/nowhere", "/v1/nowhere")] == [404, 404]
    gc.collect()
    assert len(gc.get_objects()) < num_objects + 1000
