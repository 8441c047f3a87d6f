"""The OpenAPI 3.1 document, made of the operations that are served."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from archiver.web.problems import MEDIA_TYPE
from archiver.web.schemas import COMPONENTS, STRING, Schema, ref
from archiver.web.site import JSON, Operation

_ALWAYS = (400, 401, 403, 503)


def openapi_document(operations: Iterable[Operation], version: str) -> Schema:
    """Return the document."""
    paths: dict[str, Schema] = {}
    for operation in operations:
        paths[operation.path] = {"get": _operation(operation)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "monitoring_v2 drill-down",
            "version": version,
            "description": "Calls, what every station did to them, and their sound. Times are "
            "ISO-8601 in UTC; errors are application/problem+json.",
        },
        "paths": paths,
        "components": {
            "schemas": COMPONENTS,
            "responses": {str(status): _problem(status) for status in (*_ALWAYS, *_MORE)},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "monitoring_token"},
            },
        },
    }


_MORE = (404, 409, 410, 416)


def _operation(operation: Operation) -> Schema:
    errors = {str(status): _problem_ref(status) for status in (*_ALWAYS, *operation.errors)}
    partial = {"206": _answer(operation, 206)} if operation.is_audio else {}
    return {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"Needs the role {operation.role}.",
        # The empty one: this machine needs none, and a signed address carries its own.
        "security": [{"token": []}, {"cookie": []}, {}],
        "parameters": [
            {
                "name": each.name,
                "in": each.where,
                "required": each.is_required,
                "description": each.text,
                "schema": each.schema,
            }
            for each in operation.parameters
        ],
        "responses": {"200": _answer(operation, 200), **partial, **errors},
    }


def _answer(operation: Operation, status: int) -> Schema:
    schema = operation.answer or {}
    headers = {
        name: {"description": text, "required": True, "schema": STRING}
        for name, text in operation.headers.items()
    }
    answer: Schema = {
        "description": HTTPStatus(status).phrase,
        "content": {
            media: {"schema": schema} if media == JSON else {} for media in operation.media
        },
    }
    return answer | ({"headers": headers} if headers else {})


def _problem(status: int) -> Schema:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": ref("Problem")}},
    }


def _problem_ref(status: int) -> Schema:
    return {"$ref": f"#/components/responses/{status}"}
