"""JSON schemas of what the API answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from exporter.metrics import Per
from exporter.model import Cause, EndReason, Scope, Tap

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer"}
BOOLEAN: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
ANY: Schema = {}
TAP: Schema = {"type": "string", "enum": [str(tap) for tap in Tap]}


def nullable(schema: Schema) -> Schema:
    """Return a schema that also allows null."""
    return {"anyOf": [schema, {"type": "null"}]}


def array(schema: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": schema}


def record(**properties: Schema) -> Schema:
    """Return the schema of an object in which all of these are there and nothing else."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def mapping(schema: Schema) -> Schema:
    """Return the schema of an object with any keys."""
    return {"type": "object", "additionalProperties": schema}


def ref(name: str) -> Schema:
    """Return a reference to one of ``COMPONENTS``."""
    return {"$ref": f"#/components/schemas/{name}"}


def page(item: Schema) -> Schema:
    """Return the schema of a page."""
    return record(items=array(item), next=nullable(STRING))


_WORST = record(score=NUMBER, bucket_ts=TIME, station_key=STRING, tap=TAP)
_CALL = {
    "trace_id": STRING,
    "call_id": nullable(STRING),
    "started_at": TIME,
    "ended_at": nullable(TIME),
    "end_reason": nullable({"type": "string", "enum": [str(reason) for reason in EndReason]}),
    "length_s": nullable(NUMBER),
    "src_extension": STRING,
    "dst_extension": nullable(STRING),
    "attributes": mapping(ANY),
    "health": nullable(NUMBER),
    "worst": nullable(_WORST),
    "loss_ratio": nullable(NUMBER),
    "lost_samples": INTEGER,
}
_TAP_OF_CALL = record(
    tap=TAP,
    rate=INTEGER,
    first_ts=TIME,
    last_ts=TIME,
    buckets=INTEGER,
    segments=INTEGER,
    loss_ratio=nullable(NUMBER),
)
_CAUSE: Schema = {"type": "string", "enum": [str(cause) for cause in Cause]}
_AGGREGATE = record(count=INTEGER, min=NUMBER, max=NUMBER, avg=NUMBER, last=NUMBER)
_TAP_BUCKET = record(
    metrics=mapping(_AGGREGATE),
    gaps=array(record(first_sample=INTEGER, samples=INTEGER, cause=_CAUSE, is_loss=BOOLEAN)),
    health=record(score=nullable(NUMBER), costs=mapping(NUMBER)),
    due_samples=nullable(INTEGER),
    received_samples=nullable(INTEGER),
    audio=nullable(STRING),
)
_TAPS: Schema = {
    "type": "object",
    "properties": {str(tap): ref("TapBucket") for tap in Tap},
    "additionalProperties": False,
}
_TRACK = array(nullable(NUMBER))
_EVENT = {
    "event_id": STRING,
    "trace_id": nullable(STRING),
    "station_key": nullable(STRING),
    "knob_key": STRING,
    "old_value": ANY,
    "new_value": ANY,
    "changed_by": STRING,
    "reason": STRING,
    "scope": {"type": "string", "enum": [str(scope) for scope in Scope]},
    "created_at": TIME,
    "counts_from": nullable(TIME),
}
_BESIDE = record(trace_id=STRING, station_key=STRING, bucket_ts=TIME, taps=_TAPS)

COMPONENTS: dict[str, Schema] = {
    "Problem": record(type=STRING, title=STRING, status=INTEGER, detail=STRING),
    "Status": record(
        version=STRING,
        schema=INTEGER,
        complete_until=nullable(TIME),
        behind_s=nullable(NUMBER),
        lost_samples_1h=INTEGER,
        active_calls=INTEGER,
        audio_path_ok=BOOLEAN,
        roles=array(STRING),
        retention_hours=NUMBER,
    ),
    "Call": record(**_CALL, stations=array(STRING)),
    "CallInDetail": record(
        **_CALL,
        stations=array(record(station_key=STRING, taps=array(_TAP_OF_CALL))),
        first_ts=nullable(TIME),
        last_ts=nullable(TIME),
        metrics=array(STRING),
    ),
    "Metric": record(
        key=STRING,
        title=STRING,
        description=STRING,
        unit=STRING,
        low=nullable(NUMBER),
        high=nullable(NUMBER),
        per={"type": "string", "enum": [str(per) for per in Per]},
        scope={"type": "string", "enum": ["tap", "pair"]},
        prometheus=STRING,
    ),
    "TapBucket": _TAP_BUCKET,
    "Bucket": record(
        bucket_ts=TIME,
        station_key=STRING,
        knobs=mapping(ANY),
        changed=array(ANY),
        taps=_TAPS,
    ),
    "Series": record(
        station_key=nullable(STRING),
        bucket_ts=array(TIME),
        **{str(tap): mapping(record(avg=_TRACK, min=_TRACK, max=_TRACK)) for tap in Tap},
    ),
    "Gap": record(
        station_key=STRING,
        tap=TAP,
        samples=INTEGER,
        cause=_CAUSE,
        is_loss=BOOLEAN,
        **{"from": TIME, "to": TIME},
    ),
    "KnobEvent": record(**_EVENT),
    "KnobEventInDetail": record(**_EVENT, before=array(_BESIDE), after=array(_BESIDE)),
    "Snapshot": record(
        bucket_ts=TIME, station_key=STRING, knob_values=mapping(ANY), changed=array(ANY)
    ),
    "WorstBucket": record(
        trace_id=STRING,
        station_key=STRING,
        tap=TAP,
        bucket_ts=TIME,
        value=NUMBER,
        metric=STRING,
        audio=nullable(STRING),
    ),
    "Now": record(
        source={"type": "string", "enum": ["metrics", "database"]},
        stations=array(
            record(
                station_key=STRING,
                active=INTEGER,
                taps={
                    "type": "object",
                    "properties": {str(tap): mapping(NUMBER) for tap in Tap},
                    "additionalProperties": False,
                },
            )
        ),
    ),
}
