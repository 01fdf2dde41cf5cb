"""A trained network as an HTTP service: `convax serve RUN`.

A request goes through these files in this order: `server` (sockets, signals), `app` (routes),
`uploads` (the body, within its limits), `images` (decoding), `batcher` (one call of the network
for many), `answers` (JSON).
"""
