"""Defines the chat template for a base model without one. It has a name and a version, and every adapter trained with
it includes it.

A change to its text is a new version: an adapter must be prompted in the format that it was trained on.
"""

NAME = "tunewright-chat-1"

BODY = """\
{%- if tools %}### tools
{{ tools | tojson }}{{ eos_token }}
{% endif -%}
{%- for message in messages %}### {{ message.role }}
{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
{{ call | tojson }}
{%- endfor %}{{ eos_token }}
{% endfor -%}
{%- if add_generation_prompt %}### assistant
{% endif %}"""


def text(*, with_bos: bool) -> str:
    return ("{{- bos_token }}" if with_bos else "") + BODY
