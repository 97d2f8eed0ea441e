"""One conversation of an MCP client made with the Python SDK, version 1 or 2, over one connection: it is told by one
JSON object a line what to ask, and prints one a line for each answer, and for each notification that comes.

    pipe.py '{"command": "mcp-run", "args": ["orders-db"], "env": {}}'

With "elicit": "accept", "decline" or "cancel" the client offers elicitation and answers so, at once; each question is
printed as a notification.

Commands: {"id": 1, "do": "call", "name": …, "arguments": {…}}, and `list`, `ping`, `resources`, `prompts`, `read` with
`uri`, `subscribe` with `uri`, `level` with `level`. Answers: {"id": 1, "ok": …} or {"id": 1, "error": {code, message, data}}.
Several may be under way at once.
"""
import asyncio
import json
import sys
import warnings

from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client

try:
    from mcp import Client  # version 2
    from mcp import MCPError as Refusal
except ImportError:
    from mcp import ClientSession, McpError as Refusal

    Client = None

warnings.simplefilter("ignore")


def say(**message):
    print(json.dumps(message), flush=True)


def field(value, *names):
    return next((getattr(value, name) for name in names if getattr(value, name, None) is not None), None)


async def heard(message):
    message = getattr(message, "root", message)
    method = getattr(message, "method", None)
    if method is not None and not isinstance(message, Exception):
        params = getattr(message, "params", None)
        say(notification=method, params=params and params.model_dump(mode="json", by_alias=True))


def called(result):
    text = "".join(getattr(part, "text", "") for part in result.content)
    return {"is_error": bool(field(result, "is_error", "isError")), "text": text, "result_type": field(result, "result_type")}


def answers(how):
    """What the person says when the server asks by the client."""
    from mcp.types import ElicitResult

    async def asked(context, params):
        say(notification="elicitation/create", params=params.model_dump(mode="json", by_alias=True))
        schema = field(params, "requested_schema", "requestedSchema") or {}
        content = {name: True for name, kind in schema.get("properties", {}).items() if kind.get("type") == "boolean"}
        return ElicitResult(action=how, content=content if how == "accept" else None)

    return asked


async def ask(session, command):
    what, fresh = command["do"], {} if Client is None else {"cache_mode": "bypass"}
    if what == "call":
        return called(await session.call_tool(command["name"], command["arguments"]))
    if what == "list":
        return [tool.name for tool in (await session.list_tools(**fresh)).tools]
    if what == "resources":
        return [str(resource.uri) for resource in (await session.list_resources(**fresh)).resources]
    if what == "prompts":
        return [prompt.name for prompt in (await session.list_prompts(**fresh)).prompts]
    if what == "read":
        return [field(part, "text") for part in (await session.read_resource(command["uri"], **fresh)).contents]
    if what == "ping":
        await session.send_ping()
    elif what == "level":
        await session.set_logging_level(command["level"])
    elif what == "subscribe":
        await session.subscribe_resource(command["uri"])
    else:
        raise SystemExit(f"unknown command {what}")
    return {}


async def obey(session, command):
    try:
        say(id=command["id"], ok=await ask(session, command))
    except Refusal as refusal:
        error = refusal.error
        say(id=command["id"], error={"code": error.code, "message": error.message, "data": error.data})
    except Exception as error:
        say(id=command["id"], error={"code": 0, "message": repr(error), "data": None})


async def converse(session, protocol):
    say(ready=protocol)
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()
    while line := await reader.readline():
        task = asyncio.create_task(obey(session, json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    for task in tasks:
        task.cancel()


async def main(plan):
    server = StdioServerParameters(command=plan["command"], args=plan["args"], env=plan["env"])
    offers = {"message_handler": heard, **({"elicitation_callback": answers(plan["elicit"])} if "elicit" in plan else {})}
    if Client is not None:
        async with Client(stdio_client(server), mode=plan.get("mode", "auto"), **offers) as session:
            return await converse(session, session.protocol_version)
    async with stdio_client(server) as (read, write), ClientSession(read, write, **offers) as session:
        return await converse(session, (await session.initialize()).protocolVersion)


asyncio.run(main(json.loads(sys.argv[1])))
