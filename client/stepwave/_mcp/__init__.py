"""Workflows as tools of the Model Context Protocol (MCP). Needs the package `mcp`; only the command line imports it."""
