"""The Model Context Protocol: each model is a tool for agents, at ``/mcp``.

Here belongs what translates between MCP and what the gateway asks and tells: ``tools.py`` describes
models, ``calls.py`` is on the way of a prediction, ``page.py`` is the page that both are called
from. Queues, retries, limits and metrics are the gateway's. The library is the extra
``modelyard[mcp]``, so this package is imported only where MCP is served.
"""
