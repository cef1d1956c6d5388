"""Serves the API reference at `/docs`. It loads nothing from other servers, and only its own inline script runs."""

from functools import lru_cache
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi_offline import FastAPIOffline
from starlette.responses import HTMLResponse

from app.web.answers.policy import allow_reference, isolate

ASSETS: Final = "/docs-assets"


def create_documented(**options: Any) -> FastAPI:
    """Create an app with an OpenAPI document, and with the reference made from it."""
    app = FastAPIOffline(docs_url=None, redoc_url=None, static_url=ASSETS, **options)

    @app.get("/docs", include_in_schema=False)
    async def get_reference(request: Request) -> HTMLResponse:
        html, policy = build_reference(app.title, request.scope.get("root_path", ""))
        return HTMLResponse(html, headers={"Content-Security-Policy": policy, **isolate(request.url)})

    return app


@lru_cache(maxsize=8)
def build_reference(title: str, root: str) -> tuple[str, str]:
    """Return the page, and the policy that allows its script."""
    page = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title=f"{title}: reference",
        swagger_js_url=f"{root}{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{root}{ASSETS}/favicon.png",
    )
    html = bytes(page.body).decode()
    return html, allow_reference(html)
