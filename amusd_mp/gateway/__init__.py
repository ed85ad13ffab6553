"""The HTTP application of the gateway: OpenAI's endpoints, numbers and a live page, on top of the client.

It uses `amusd_mp.client` as any application would and knows no transport, no model and no node. Everything in here
needs the optional packages of `amusd-mp[server]`, so nothing else imports it before a gateway starts.
"""
