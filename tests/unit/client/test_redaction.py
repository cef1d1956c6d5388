"""Checks that a support bundle holds no secret, in any form in which logs and errors show them."""

import pytest

from tunewright.redaction import REMOVED, redact, redact_json

SENSITIVE = "c4n4ryS3cr3tValue0123456789"


@pytest.mark.parametrize(
    "text",
    [
        f"key tw_5f0c1d2e3a4b5c6d7e8f9a0b_{SENSITIVE}",
        f"Authorization: Bearer {SENSITIVE}",
        f"authorization='Basic {SENSITIVE}'",
        f"signed with whsec_{SENSITIVE}=",
        f"postgresql+psycopg://tunewright:{SENSITIVE}@db:5432/tunewright",
        f"redis://:{SENSITIVE}@redis:6379/0",
        f"DATABASE_URL=postgresql://u:{SENSITIVE}@h/d?sslmode=require",
        f"HF_TOKEN={SENSITIVE}",
        f"hf_{SENSITIVE}",
        f"WANDB_API_KEY: {SENSITIVE}",
        f"AWS_SECRET_ACCESS_KEY={SENSITIVE}",
        f"https://bucket/x?X-Amz-Signature={SENSITIVE}&a=1",
        f"https://host/x?a=1&token={SENSITIVE}",
        f'{{"password": "{SENSITIVE}"}}',
        f"{{'client_secret': '{SENSITIVE} with spaces'}}",
        f"sk-{SENSITIVE}",
        f"eyJhbGciOiJIUzI1NiJ9.{SENSITIVE}.{SENSITIVE}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SENSITIVE}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SENSITIVE}\ncut off",
    ],
)
def test_a_secret_is_removed(text: str) -> None:
    assert SENSITIVE not in redact(text)
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
def test_other_text_is_kept(text: str) -> None:
    assert redact(text) == text


def test_values_under_the_name_of_a_secret_are_removed_at_any_depth() -> None:
    data = {
        "metadata": {"api_key": SENSITIVE, "team": "cats"},
        "list": [{"password": SENSITIVE}, f"Bearer {SENSITIVE}"],
        "n": 1,
    }
    assert redact_json(data) == {
        "metadata": {"api_key": REMOVED, "team": "cats"},
        "list": [{"password": REMOVED}, f"Bearer {REMOVED}"],
        "n": 1,
    }
