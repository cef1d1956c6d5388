# syntax=docker/dockerfile:1
# The server image, without torch: it runs the API, the dispatcher, the migrations and the light worker, which loads
# tokenizers to create previews.
FROM python:3.11-slim-bookworm

# A volume gets the owner of the folder on which it is mounted.
RUN useradd --uid 10001 --create-home tunewright \
    && install -d -o tunewright -g tunewright /var/lib/tunewright /var/lib/tunewright/storage /var/cache/tunewright

WORKDIR /srv/tunewright
COPY pyproject.toml constraints.txt alembic.ini README.md LICENSE ./
COPY app app
COPY worker worker
COPY tunewright tunewright
COPY migrations migrations

# Installed as editable, so that the migrations next to the packages are found and no file exists twice.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt --editable '.[server,tokenizer]'

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER tunewright
EXPOSE 8400
CMD ["uvicorn", "--factory", "app.main:create_server", "--http", "app.web.server.guarded_protocol:GuardedProtocol", "--ws", "none", "--host", "0.0.0.0", "--port", "8400", "--no-access-log"]
