"""The mark by which an annotation says that its values are secret. A leaf: it imports nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

SECRET_KEYWORD: Final = "x-secret"  # noqa: S105 - a keyword, not a secret
"""The keyword of a JSON schema whose values are never shown."""


class Secret:
    """Marks what is never shown: `async def pay(card: Annotated[str, Secret])`, or a field of a model, at any depth.

    The page, the HTTP API and the errors that they show have `[redacted]` in its place, for operators, too. The actor gets the value
    itself, and Redis holds it: what must not lie there is sent as the key of a vault.
    """

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Write the mark into the schema, where the page and the API find it."""
        schema: dict[str, Any] = {**handler(core_schema), SECRET_KEYWORD: True}
        return schema
