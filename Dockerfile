# syntax=docker/dockerfile:1
# The server without torch: the API, the dispatcher, migrations and the light worker run from it. The last of these
# makes previews, for which it loads tokenizers.
FROM python:3.11-slim-bookworm

# A volume takes its owner from the folder it is mounted on.
RUN useradd --uid 10001 --create-home tunewright \
    && install -d -o tunewright -g tunewright /var/lib/tunewright /var/lib/tunewright/storage /var/cache/tunewright

WORKDIR /srv/tunewright
COPY pyproject.toml constraints.txt alembic.ini README.md LICENSE ./
COPY app app
COPY worker worker
COPY tunewright tunewright
COPY migrations migrations

# Editable, so that the migrations beside the packages are found, and nothing lies twice.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint constraints.txt --editable '.[server,tokenizer]'

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER tunewright
EXPOSE 8400
CMD ["uvicorn", "--factory", "app.main:create_server", "--http", "app.web.server.guarded_protocol:GuardedProtocol", "--ws", "none", "--host", "0.0.0.0", "--port", "8400", "--no-access-log"]
