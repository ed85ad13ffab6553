"""What an asyncio application embeds to have text written by a deployment. It loads no model library.

`client` is the interface, `stream` one response being written, `options` what may be asked for and `results` what comes
out; `switchboard` is the connection that all streams of a client share.
"""
