"""An MCP client made with the Python SDK, version 1 or 2: starts a server, lists its tools, makes the calls
that it is told, and prints one JSON object. What the SDK hands to the server, and how it ends it, is the SDK's.

    walk.py '{"command": "mcp-run", "args": ["orders-db"], "env": {}, "calls": [["execute_sql", {"sql": "…"}]]}'
"""
import asyncio
import json
import sys

from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client

try:
    from mcp import Client  # version 2
except ImportError:
    from mcp import ClientSession

    Client = None


def text(result):
    failed = getattr(result, "is_error", None) or getattr(result, "isError", None) or False
    return {"error": failed, "text": "".join(getattr(part, "text", "") for part in result.content)}


async def talk(session, plan):
    tools = [tool.name for tool in (await session.list_tools()).tools]
    calls = [text(await session.call_tool(name, arguments)) for name, arguments in plan["calls"]]
    return {"tools": tools, "calls": calls}


async def main(plan):
    server = StdioServerParameters(command=plan["command"], args=plan["args"], env=plan["env"])
    if Client is not None:
        async with Client(stdio_client(server)) as session:
            return await talk(session, plan)
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        return await talk(session, plan)


print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
