"""The advice to an operator for each fault: what to change. docs/doctor.md explains why."""

from __future__ import annotations

_UPGRADE = """\
The proxy does not pass the upgrade on. nginx, in the location of the socket:
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "upgrade";
If there is no proxy, the server speaks no WebSocket: pip install websockets (for uvicorn)."""
_NOT_THERE = """\
Nothing is served there: is the URL the mount (PHX_PROTOCOL["SOCKETS"], PHX_PROTOCOL["WEBSOCKET"]),
does the proxy send it to the ASGI server, and does that run get_phoenix_application()?"""
_REFUSED = """\
connect() of the Socket refuses: pass what your page connects with, --param token=... or
--auth-token TOKEN. (uvicorn and Daphne also answer 403 where no WebSocket is served, and Daphne where
SECURE_SSL_REDIRECT wants https.)"""
_REDIRECTED = (
    "Browsers follow no redirect of a WebSocket: use the URL that it leads to."
)
_UNREACHABLE = """\
The proxy does not reach the ASGI server: is it running, and is it where proxy_pass says?"""
_BUSY = """\
The site takes no more connections: it is going down, PHX_PROTOCOL["MAX_CONNECTIONS"] is
reached, or the proxy has no server left. Start more processes."""
_CRASHED = "connect() of the Socket, or CHECK_ORIGIN, crashed: see the log of the site."
_DEAD = (
    "There is no answer: check the host, the port, the firewall and the certificate."
)

#: the status of an answer that is not from this package -> what to do; None: there was no answer
ANSWER: dict[int | None, str] = {
    None: _DEAD,
    301: _REDIRECTED,
    302: _REDIRECTED,
    307: _REDIRECTED,
    308: _REDIRECTED,
    401: _REFUSED,
    403: _REFUSED,
    404: _NOT_THERE,
    500: _CRASHED,
    502: _UNREACHABLE,
    503: _BUSY,
    504: _UNREACHABLE,
}
#: the same for an answer to a handshake
UPGRADE = {**ANSWER, 200: _UPGRADE, 400: _UPGRADE, 426: _UPGRADE}
OTHER_STATUS = "This answer is not from this package, but from a proxy or server before it. See its log."

ORIGIN = """\
The site sees another host or scheme than its pages have. nginx:
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-Proto $scheme;  # and SECURE_PROXY_SSL_HEADER in the settings
Pages of another host need CSRF_TRUSTED_ORIGINS or PHX_PROTOCOL["CHECK_ORIGIN"]."""
FOREIGN_ORIGIN = """\
Any page on the web can connect as its visitor. Do not set PHX_PROTOCOL["CHECK_ORIGIN"] (or
check_origin of the Socket) to False; set it to True, or to the origins of your pages."""
UNKNOWN_SCHEME = """\
The site cannot know whether a WebSocket came over TLS: Daphne does not report it. Let the proxy set a
header, and let no client set it:
    proxy_set_header X-Forwarded-Proto $scheme;  # nginx; Traefik does by itself, and writes wss
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")  # in the settings
or make the server reachable only through a proxy that accepts nothing but TLS."""
IN_THE_CLEAR = """\
Its cookies and tokens can be read on the way. Redirect http to https in the proxy, or set
SECURE_SSL_REDIRECT = True, and SECURE_PROXY_SSL_HEADER to the header that the proxy sets."""
PROXY_SCHEME = """\
That is right if this URL is the proxy's, which sets the header itself. If it is the server's: does it
run with these settings (SECURE_PROXY_SSL_HEADER, CHECK_ORIGIN), and is its Host in ALLOWED_HOSTS?"""
SUBPROTOCOL = """\
Browsers fail this handshake. Is Sec-WebSocket-Protocol passed on both ways by the proxy? nginx does;
others: allow the header. A middleware that accepts the handshake must select "phoenix"."""
TOKEN_SIZE = """\
The server, or a proxy, does not accept a longer header. uvicorn, in its environment:
    WEBSOCKETS_MAX_LINE_LENGTH=40000
nginx, in http or server:
    large_client_header_buffers 4 32k;
Daphne accepts 12,000 characters. Better: a shorter token, such as {% phx_token %}."""
HIDDEN_SERVER = """\
The site does not see when a client is slow, and cannot abort its connection. Let the middleware that
wraps `send` call it in the task that got it, or put the middleware inside of the application: around
get_asgi_application(), for get_phoenix_application(http=...)."""
VSN = 'Clients of that version cannot connect: see PHX_PROTOCOL["SERIALIZERS"] of the site.'
COMPRESSION = """\
A broadcast is compressed once for each client: about twice the CPU and three times the memory.
    uvicorn --ws-per-message-deflate false
Daphne and granian do not negotiate it. Keep it if you have little bandwidth."""
BUFFERING = """\
A proxy delays messages. nginx, in the location of the socket:
    proxy_buffering off;
    proxy_cache off;
and neither proxy_limit_rate nor limit_rate; for a CDN or WAF, no inspection of whole responses."""
CACHE = """\
A proxy caches answers with "no-store": two clients would share a session. nginx:
    proxy_cache off;
and no proxy_ignore_headers Cache-Control; for a CDN, bypass its cache for the mount."""
PROXY_TIMEOUT = """\
phoenix.js sends a heartbeat every 30 s. nginx, in the location of the socket:
    proxy_read_timeout 75s;
    proxy_send_timeout 75s;
For a load balancer, raise its idle timeout (AWS: idle_timeout.timeout_seconds)."""
SITE_TIMEOUT = """\
phoenix.js sends a heartbeat every 30 s: set PHX_PROTOCOL["TIMEOUT"] (or timeout of the Socket) to 60."""
CAME_BACK = "The site closed the connection: was it restarted just now? Run this again."
POLL_TIMEOUT = """\
A poll waits for PHX_PROTOCOL["LONGPOLL"]["WINDOW"] seconds (10): the proxy must allow that. nginx:
    proxy_read_timeout 75s;"""
LONGPOLL_OFF = """\
Clients whose network blocks WebSockets need it: PHX_PROTOCOL["LONGPOLL"] = True."""
LOST_SESSION = """\
Several processes serve the site and do not reach each other: with a channel layer in memory, or
different ones, or different SECRET_KEYs. Give all of them the same Redis:
    CHANNEL_LAYERS = {"default": {
        "BACKEND": "phx_protocol.layers.RedisLayer",
        "CONFIG": {"hosts": ["redis://127.0.0.1:6379/0"]}}}
or run one process only. Broadcasts between the processes are lost as well."""
IN_MEMORY = """\
That is enough for one process only. For several: phx_protocol.layers.RedisLayer in CHANNEL_LAYERS.
Commands reach a process of the same machine with DEBUG or PHX_PROTOCOL["LOCAL_BUS"] as well.
If these are not the settings of the site, give --no-layer."""
NO_STATE = """\
Does Redis run, and at the address in CHANNEL_LAYERS (or PHX_PROTOCOL["STATE"]["HOSTS"])?"""
LACKS = """\
Presences, histories and leases need Lua scripts that call these commands, on keys with the prefix of
PHX_PROTOCOL["STATE"]. Allow them (ACL SETUSER name +@all -@dangerous ~asgi:*), or name another Redis:
    PHX_PROTOCOL = {"STATE": {"HOSTS": ["redis://127.0.0.1:6379/1"]}}"""
EVICTION = """\
When its memory is full Redis drops presences, histories and leases: the processes restore them, but late.
    redis-cli config set maxmemory-policy noeviction
and give caches a Redis of their own."""
OTHER_SERVERS = """\
A topic may be on two of them. Give all processes the same list (hosts of the layer, or STATE["HOSTS"]); to change
it while they run: docs/scaling.md, "Other servers while the site runs". While they change it lasts a beat."""
NO_NODE = """\
The site uses another Redis, database or prefix than these settings (its layer may be in memory).
Run this with the settings of the site, or with --no-layer."""
NO_ANSWER = """\
The state knows the processes, but they do not answer over the layer: do all have the same
CHANNEL_LAYERS, and the same PHX_PROTOCOL["CHANNEL_LAYER"]?"""
SOME_ANSWERS = """\
A process that was killed stays known until its lease ends (30 s): run this again. One that still does
not answer is stuck, or has another channel layer."""
SLOW_LAYER = "Redis is far away or overloaded, or the processes are: look at redis-cli --latency."
SKEW = """\
Tokens have ages and leases have times: run an NTP client (timedatectl set-ntp true) on both."""
PROXIES = """\
All clients seem to come from its address, and a limit by address would be one for all. Name it:
    PHX_PROTOCOL = {"TRUSTED_PROXIES": ["10.0.0.7"]}
and let it set X-Forwarded-For. nginx:
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"""
OUTBOX_WAITS = """\
Nobody sends it, or what sends it fails. Processes that serve clients do (if OUTBOX["RELAY"] is not False), or
    manage.py phx_outbox
Their logs (logger phx_protocol.outbox) say what fails."""
OUTBOX_ASIDE = """\
They cannot be sent. The admin (Outbox: Messages) shows why; send them again there, or delete them."""
