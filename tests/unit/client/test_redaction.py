"""Secrets that a support bundle must not hold, in the shapes in which logs and errors show them."""

import pytest

from tunewright.redaction import REMOVED, redact, redact_json

CANARY = "c4n4ryS3cr3tValue0123456789"


@pytest.mark.parametrize(
    "text",
    [
        f"key tw_5f0c1d2e3a4b5c6d7e8f9a0b_{CANARY}",
        f"session tws_5f0c1d2e3a4b5c6d7e8f9a0b_{CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"authorization='Basic {CANARY}'",
        f"signed with whsec_{CANARY}=",
        f"postgresql+psycopg://tunewright:{CANARY}@db:5432/tunewright",
        f"redis://:{CANARY}@redis:6379/0",
        f"DATABASE_URL=postgresql://u:{CANARY}@h/d?sslmode=require",
        f"HF_TOKEN={CANARY}",
        f"hf_{CANARY}",
        f"WANDB_API_KEY: {CANARY}",
        f"AWS_SECRET_ACCESS_KEY={CANARY}",
        f"https://bucket/x?X-Amz-Signature={CANARY}&a=1",
        f"https://host/x?a=1&token={CANARY}",
        f'{{"password": "{CANARY}"}}',
        f"{{'client_secret': '{CANARY} with spaces'}}",
        f"sk-{CANARY}",
        f"eyJhbGciOiJIUzI1NiJ9.{CANARY}.{CANARY}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{CANARY}\ncut off",
    ],
)
def test_a_secret_is_removed(text: str) -> None:
    assert CANARY not in redact(text)
    assert REMOVED in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "252 rows with 14,077 tokens (4,683 labelled); max_tokens=5 num_tokens: 17",
        "eos_token: </s> pad_token='<pad>' token = 'cat'",
        "Worker gpu-1-4711 claimed the job ftjob-5f0c1d2e3a4b5c6d7e8f9a0b (attempt 1).",
        "http://127.0.0.1:8400/jobs/ftjob-1 sha256 5f0c1d2e3a4b5c6d7e8f9a0b5f0c1d2e",
        '  File "/srv/worker/training/loop/training_loop.py", line 12, in train',
        "the key of the row at line 3, secrets apart",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_what_is_kept_under_a_secrets_name_is_removed_at_any_depth() -> None:
    told = {"metadata": {"api_key": CANARY, "team": "cats"}, "list": [{"password": CANARY}, f"Bearer {CANARY}"], "n": 1}
    assert redact_json(told) == {
        "metadata": {"api_key": REMOVED, "team": "cats"},
        "list": [{"password": REMOVED}, f"Bearer {REMOVED}"],
        "n": 1,
    }
