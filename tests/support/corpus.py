"""Schemas of the shapes that well-known MCP servers and agents publish, as their generators write them.

Written by hand, without their words: what counts is how zod, pydantic, the generators of Go and Rust, OpenAPI and
people put things. `LOOSE` says which keywords no grammar holds; all else is held.
"""

from typing import Any

S: dict[str, Any] = {"type": "string"}
N: dict[str, Any] = {"type": "number"}
I: dict[str, Any] = {"type": "integer"}  # noqa: E741
B: dict[str, Any] = {"type": "boolean"}
NULL: dict[str, Any] = {"type": "null"}
DRAFT7, DRAFT2020 = "http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema"
SAFE = 9007199254740991
"""What zod writes as the bound of an integer."""


def zod(*required: str, **properties: Any) -> dict[str, Any]:
    return {
        "$schema": DRAFT7,
        "type": "object",
        "properties": properties,
        **({"required": [*required]} if required else {}),
        "additionalProperties": False,
    }


def plain(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*required]}


def pydantic(*required: str, defs: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    titled = {name: {**part, "title": name.replace("_", " ").title()} for name, part in properties.items()}
    return {**({"$defs": defs} if defs else {}), "title": "Arguments", **plain(*required, **titled)}


def maybe(schema: dict[str, Any], default: Any = None) -> dict[str, Any]:
    """As pydantic writes Optional."""
    return {"anyOf": [schema, NULL], "default": default}


def many(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def one_of(*values: Any, **more: Any) -> dict[str, Any]:
    return {"type": "string", "enum": [*values], **more}


PAGE = {"page": {**N, "minimum": 1}, "perPage": {**N, "minimum": 1, "maximum": 100}}
REPO = {"owner": S, "repo": S}
EDIT = plain("oldText", "newText", oldText=S, newText=S) | {"additionalProperties": False}
RICH_TEXT = {
    "oneOf": [
        plain("type", "text", type={"const": "text"}, text=plain("content", content={**S, "maxLength": 2000})),
        plain("type", "mention", type={"const": "mention"}, mention={"type": "object", "additionalProperties": True}),
    ]
}
ENTITY = {"type": "object", "properties": {"name": S, "entityType": S, "observations": many(S)}}
FILTER = {
    "type": "object",
    "properties": {
        "property": S,
        "and": many({"$ref": "#/$defs/Filter"}),
        "or": many({"$ref": "#/$defs/Filter"}),
        "equals": {"anyOf": [S, N, B]},
    },
}

CORPUS: dict[str, dict[str, Any]] = {
    # Files
    "filesystem.read_text_file": zod("path", path=S, head=N, tail=N),
    "filesystem.read_multiple": zod("paths", paths=many(S, minItems=1)),
    "filesystem.write_file": zod("path", "content", path=S, content=S),
    "filesystem.edit_file": zod("path", "edits", path=S, edits=many(EDIT), dryRun={**B, "default": False}),
    "filesystem.directory_tree": zod("path", path=S, excludePatterns={**many(S), "default": []}),
    "filesystem.list_allowed": {"type": "object", "properties": {}, "required": []},
    # Version control
    "git.log": pydantic("repo_path", repo_path=S, max_count={**I, "default": 10}, start_timestamp=maybe(S)),
    "git.add": pydantic("repo_path", "files", repo_path=S, files=many(S)),
    "git.branch": pydantic("repo_path", "branch_type", repo_path=S, branch_type=S, contains=maybe(S)),
    "github.create_issue": plain("owner", "repo", "title", **REPO, title=S, body=S, assignees=many(S), labels=many(S)),
    "github.list_issues": plain(
        *REPO,
        **REPO,
        state=one_of("OPEN", "CLOSED"),
        direction=one_of("ASC", "DESC"),
        since={**S, "format": "date-time"},
        **PAGE,
    ),
    "github.push_files": plain(
        *(*REPO, "branch", "files", "message"),
        **REPO,
        branch=S,
        message=S,
        files=many(plain("path", "content", path=S, content=S) | {"additionalProperties": False}),
    ),
    "github.review": plain(
        *(*REPO, "pullNumber", "method"),
        **REPO,
        pullNumber=N,
        method=one_of("create", "submit_pending", "delete_pending"),
        event=one_of("APPROVE", "REQUEST_CHANGES", "COMMENT"),
        comments=many(
            {"anyOf": [plain("path", "line", path=S, line=N), plain("path", "position", path=S, position=N)]}
        ),
    ),
    "github.openapi_update": {
        "allOf": [
            {"$ref": "#/definitions/Repo"},
            {"type": "object", "properties": {"state": one_of("open", "closed"), "labels": many(S)}},
        ],
        "definitions": {"Repo": plain("owner", "repo", "number", **REPO, number={**I, "minimum": 1})},
    },
    "gitlab.merge_request": zod(
        "project_id", project_id={"anyOf": [S, N]}, labels={"anyOf": [S, many(S)]}, draft={"type": ["boolean", "null"]}
    ),
    # Talk
    "slack.post_message": plain("channel_id", "text", channel_id=S, text=S),
    "slack.history": plain("channel_id", channel_id=S, limit={**N, "default": 10}, cursor=S),
    "slack.blocks": plain(
        "channel",
        channel={**S, "pattern": "^[CGD][A-Z0-9]{8,}$"},
        blocks=many({"type": "object", "properties": {"type": S}, "required": ["type"], "additionalProperties": True}),
    ),
    "gmail.send": zod(
        *("to", "subject", "body"),
        to=many({**S, "format": "email"}, minItems=1),
        subject=S,
        body=S,
        mimeType=one_of("text/plain", "text/html", default="text/plain"),
        attachments=many(S),
    ),
    "calendar.create_event": zod(
        *("start", "end"),
        start={**S, "format": "date-time"},
        end={**S, "format": "date-time"},
        attendees=many(plain("email", email={**S, "format": "email"}, optional=B)),
        reminders=plain(useDefault=B, overrides=many(plain(method=one_of("email", "popup"), minutes=I))),
        recurrence=many({**S, "pattern": "^RRULE:.+$"}),
    ),
    # Browsers
    "playwright.navigate": zod("url", url=S),
    "playwright.click": zod(
        *("element", "ref"),
        element=S,
        ref=S,
        button=one_of("left", "right", "middle"),
        doubleClick=B,
        modifiers=many(one_of("Alt", "Control", "ControlOrMeta", "Meta", "Shift")),
    ),
    "playwright.fill_form": zod(
        "fields",
        fields=many(
            zod("name", "type", "ref", "value", name=S, type=one_of("textbox", "checkbox", "radio"), ref=S, value=S)
        ),
    ),
    "playwright.resize": zod("width", "height", width=N, height=N),
    "playwright.none": {"$schema": DRAFT7, "type": "object", "properties": {}, "additionalProperties": False},
    "puppeteer.screenshot": plain("name", name=S, selector=S, width=N, height=N, encoded=B),
    "puppeteer.launch": plain(url=S, launchOptions={"type": "object"}, allowDangerous=B),
    "devtools.emulate": zod(
        networkConditions=one_of("No emulation", "Offline", "Slow 3G"),
        cpuThrottlingRate={**N, "minimum": 1, "maximum": 20},
        geolocation={"anyOf": [zod("latitude", latitude={**N, "minimum": -90, "maximum": 90}), NULL]},
    ),
    "fetch.fetch": pydantic(
        "url",
        url={**S, "format": "uri", "minLength": 1},
        max_length={**I, "default": 5000, "exclusiveMaximum": 1000000, "exclusiveMinimum": 0},
        start_index={**I, "default": 0, "minimum": 0},
        raw={**B, "default": False},
    ),
    "search.web": zod(
        "query",
        query={**S, "maxLength": 400},
        count={**I, "minimum": 1, "maximum": 20, "default": 10},
        freshness={"anyOf": [one_of("pd", "pw", "pm"), {**S, "pattern": "^\\d{4}-\\d\\dto\\d{4}-\\d\\d$"}]},
        includeDomains=many({**S, "minLength": 1}, maxItems=300),
    ),
    "search.hosts": zod(
        "includeDomains",
        includeDomains=many(
            {
                **S,
                "minLength": 1,
                "maxLength": 253,
                "pattern": "^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z0-9]{2,61}$",
            }
        ),
    ),
    # Data
    "postgres.query": plain(sql=S),
    "sqlite.insert": pydantic("query", query=S, params=maybe(many({"anyOf": [S, I, N, B, NULL]}))),
    "mongodb.find": zod(
        *("database", "collection"),
        database=S,
        collection=S,
        filter={"type": "object", "additionalProperties": {}},
        sort={"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"enum": [1, -1]}},
        limit={**I, "exclusiveMinimum": 0, "maximum": SAFE},
    ),
    "redis.set": pydantic(
        "key",
        "value",
        key=S,
        value={"anyOf": [S, I, N, {"type": "object", "additionalProperties": True}]},
        ttl=maybe(I),
    ),
    "elastic.search": zod("index", "queryBody", index={**S, "minLength": 1}, queryBody={"type": "object"}),
    "qdrant.store": pydantic(
        "information", information=S, metadata=maybe({"type": "object", "additionalProperties": True})
    ),
    "bigquery.typed": plain(
        rows=many({"type": "object", "patternProperties": {"^[a-z_]+$": {"type": ["string", "number", "null"]}}})
    ),
    # Notes, tasks
    "notion.create_page": {
        **plain(
            "parent",
            parent={
                "oneOf": [
                    zod("page_id", page_id={**S, "format": "uuid"}, type={"const": "page_id"}),
                    zod("database_id", database_id={**S, "format": "uuid"}, type={"const": "database_id"}),
                ]
            },
            properties={"type": "object", "additionalProperties": {"$ref": "#/$defs/value"}},
            children=many({"$ref": "#/$defs/block"}, maxItems=100),
        ),
        "$defs": {
            "value": {"anyOf": [S, N, B, NULL, many(RICH_TEXT)]},
            "block": plain("type", type=S, rich_text=many(RICH_TEXT), children=many({"$ref": "#/$defs/block"})),
        },
    },
    "notion.query": {**plain("id", id=S, filter={"$ref": "#/$defs/Filter"}), "$defs": {"Filter": FILTER}},
    "linear.create_issue": zod(
        *("title", "team"),
        title=S,
        team=S,
        priority={**N, "minimum": 0, "maximum": 4},
        dueDate={**S, "format": "date"},
        parentId=S,
        links=many(zod("url", "title", url={**S, "format": "uri"}, title={**S, "minLength": 1})),
        assignee={"anyOf": [S, NULL]},
    ),
    "linear.list": zod(limit={**N, "default": 50, "maximum": 250}, orderBy=one_of("createdAt", "updatedAt")),
    "sentry.search": zod(
        "organizationSlug",
        organizationSlug={**S, "pattern": "^(?!-)[a-z0-9-]{1,40}$"},
        regionUrl={"anyOf": [{**S, "format": "uri"}, NULL], "default": None},
        limit={**I, "minimum": 1, "maximum": 100, "default": 10},
    ),
    "jira.transition": pydantic(
        "issue_key",
        issue_key={**S, "pattern": "^[A-Z][A-Z0-9_]+-\\d+$"},
        fields={"anyOf": [S, {"type": "object", "additionalProperties": True}, NULL], "default": None},
    ),
    "todoist.due": {
        **plain("content", content=S, dueString=S, dueDate={**S, "format": "date"}),
        "not": {"required": ["dueString", "dueDate"]},
    },
    "asana.one_needed": {**plain(workspace=S, project=S, section=S), "minProperties": 1},
    "trello.any": {
        "type": "object",
        "properties": {"boardId": S, "boardName": S, "listId": S},
        "required": ["listId"],
        "anyOf": [{"required": ["boardId"]}, {"required": ["boardName"]}],
    },
    # Thought, memory, time
    "memory.create_entities": plain(
        "entities", entities=many(ENTITY | {"required": ["name", "entityType", "observations"]})
    ),
    "memory.delete_relations": plain(
        "relations", relations=many(plain("from", "to", **{"from": S, "to": S, "relationType": S}))
    ),
    "sequential_thinking": zod(
        *("thought", "nextThoughtNeeded", "thoughtNumber", "totalThoughts"),
        thought=S,
        nextThoughtNeeded=B,
        thoughtNumber={**I, "minimum": 1},
        totalThoughts={**I, "minimum": 1},
        branchId=S,
    ),
    "time.convert": plain(
        "source_timezone", "time", "target_timezone", source_timezone=S, time={**S, "format": "time"}, target_timezone=S
    ),
    # Clouds, payments, maps
    "stripe.refund": zod(
        "payment_intent", payment_intent=S, amount={**I, "exclusiveMinimum": 0, "maximum": SAFE}, reason={"not": {}}
    ),
    "pydantic.decimal": pydantic(
        "price",
        price={
            "anyOf": [N, {**S, "pattern": "^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$"}],
        },
        largest={**N, "minimum": 0, "maximum": 1.7976931348623157e308},
    ),
    "maps.directions": plain("origin", "destination", origin=S, destination=S, mode=one_of("driving", "walking")),
    "maps.points": zod("points", points=many({"type": "array", "items": [N, N], "minItems": 2, "maxItems": 2})),
    "kubernetes.apply": {
        "type": "object",
        "properties": {"kind": one_of("Pod", "Service"), "replicas": I, "port": I},
        "required": ["kind"],
        "if": {"properties": {"kind": {"const": "Pod"}}},
        "then": {"required": ["replicas"]},
        "else": {"required": ["port"]},
    },
    "terraform.schemars": {
        "$schema": DRAFT2020,
        "title": "Args",
        **plain(
            "id", id={"type": "integer", "format": "uint64", "minimum": 0}, tags={"type": ["array", "null"], "items": S}
        ),
        "oneOf": [plain("file", file={"type": "string"}), plain("url", url={"type": "string", "format": "uri"})],
    },
    "figma.ids": zod("nodeId", nodeId={**S, "pattern": "^I?\\d+:\\d+(?:;\\d+:\\d+)*$"}, depth=N),
    "openapi.nullable": plain("id", id={**I, "format": "int64", "nullable": True}, at={"$ref": "#/$defs/at"})
    | {"$defs": {"at": {"allOf": [{"$ref": "#/$defs/text"}], "description": "d"}, "text": S}},
    # An agent's own tools
    "agent.bash": zod("command", command=S, timeout={**N, "maximum": 600000}, description=S, run_in_background=B),
    "agent.multi_edit": zod(
        *("file_path", "edits"),
        file_path=S,
        edits=many(zod("old_string", "new_string", old_string=S, new_string=S, replace_all={**B, "default": False})),
    ),
    "agent.todo": zod(
        "todos",
        todos=many(
            zod(
                *("content", "status", "activeForm"),
                content={**S, "minLength": 1},
                status=one_of("pending", "in_progress", "completed"),
                activeForm={**S, "minLength": 1},
            )
        ),
    ),
    "agent.question": zod(
        "questions",
        questions=many(
            zod(
                *("question", "header", "options", "multiSelect"),
                question=S,
                header=S,
                multiSelect={**B, "default": False},
                options=many(zod("label", "description", label=S, description=S), minItems=2, maxItems=4),
            ),
            minItems=1,
            maxItems=4,
        ),
        answers={"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": S},
    ),
    "agent.grep": zod(
        "pattern", **{"pattern": S, "-n": B, "-A": N, "output_mode": one_of("content", "count"), "multiline": B}
    ),
    "agent.notebook": zod(
        *("notebook_path", "new_source"), notebook_path=S, new_source=S, edit_mode=one_of("replace", "insert", "delete")
    ),
    "agent.patch_or_write": {
        "type": "object",
        "discriminator": {"propertyName": "kind"},
        "oneOf": [{"$ref": "#/$defs/Patch"}, {"$ref": "#/$defs/Write"}],
        "$defs": {
            "Base": plain("path", path=S),
            "Patch": {"allOf": [{"$ref": "#/$defs/Base"}, plain("kind", "diff", kind={"const": "patch"}, diff=S)]},
            "Write": {"allOf": [{"$ref": "#/$defs/Base"}, plain("kind", "text", kind={"const": "write"}, text=S)]},
        },
    },
    "agent.ref_beside": {
        "$ref": "#/$defs/Base",
        "properties": {"depth": {**I, "minimum": 0, "maximum": 9}},
        "required": ["depth"],
        "$defs": {"Base": plain("path", path=S)},
    },
    "agent.common": {
        **plain("id", id=I),
        "anyOf": [plain("name", name=S), plain("index", index={**I, "minimum": 0})],
    },
    "sloppy.null_required": {"type": "object", "properties": {"path": S}, "required": None},
    "sloppy.boolean_required": {"type": "object", "properties": {"path": {**S, "required": True}}},
    "sloppy.typed_any": {"type": "object", "properties": {"value": {"type": "any"}, "list": {"type": "array"}}},
    "sloppy.unique_tags": plain("tags", tags=many(S, uniqueItems=True)),
}

LOOSE: dict[str, tuple[str, ...]] = {
    "search.hosts": ("includeDomains.[]: maxLength",),
    "sentry.search": ("organizationSlug: pattern",),
    "pydantic.decimal": ("price.1: pattern", "largest: maximum"),
    "sloppy.unique_tags": ("tags: uniqueItems",),
}
"""What no grammar holds, and is said to be loose; each by its place."""
