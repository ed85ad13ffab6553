"""Who is who, and who may what: key files, the allow-list, and the guard that holds requests and publications to it.

Proving keys and encrypting is a transport's work (`amusd_mp.transport.credentials`); what a proven key may do is
decided here, for every transport alike. It starts nothing and knows no socket.
"""
