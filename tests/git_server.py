"""git over https as GitHub serves it: each request is answered for the token that it carries, and for no other.

A client reaches github.com, or any other host, through a proxy of this process, and trusts a certificate that is made
for the test: ``settings`` is the configuration of git that says so. What the real one says no to is refused here too:
without a token the first request is answered with 401, and git would ask for a name; a token without the right is told
so with 403.
"""

import base64
import contextlib
import os
import re
import socket
import ssl
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST, ELSEWHERE = "github.com", "git.example.org"
SERVICES = {"git-upload-pack": "read", "git-receive-pack": "write"}


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        host: at which it was sent.
        path: with its query.
        headers: the values of Authorization.
        job: whose token it carries; "" for none that is known.
        status: of the answer.
    """

    host: str
    path: str
    headers: tuple[str, ...]
    job: str
    status: int


class GitServer:
    """A repository at github.com; it listens while it is entered. ELSEWHERE is a host with a copy that anybody reads.

    Attributes:
        bare: the repository.
        name: its owner and name.
        tokens: token -> the job that has it.
        rights: job -> what its token may do with the contents: `read`, `write` or nothing.
        private: reading at github.com needs a token, too.
        moved: github.com answers that the repository is at ELSEWHERE.
        requests: in their order.
    """

    def __init__(self, bare, name, tokens, rights, private):
        self.bare, self.name, self.tokens, self.rights, self.private = (
            Path(bare).resolve(),
            name,
            tokens,
            rights,
            private,
        )
        self.moved, self.requests = False, []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self._server = _Server(("127.0.0.1", 0), _Handler)
            self._server.git = self
            self._server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.certificate = _certificate(self._folder, (HOST, ELSEWHERE))
            self._server.tls.load_cert_chain(self.certificate)
            thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            for close in (self._server.server_close, thread.join, self._server.shutdown):  # the last one first
                stack.callback(close)
            self._end = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._end.close()

    @property
    def url(self):
        return f"https://{HOST}/{self.name}"

    @property
    def settings(self):
        """The configuration of a git that takes these hosts from here."""
        proxy, lines = f"http://127.0.0.1:{self._server.server_port}", []
        for host in (HOST, ELSEWHERE):
            lines += [f'[http "https://{host}"]', f"\tproxy = {proxy}", f"\tsslCAInfo = {self.certificate}"]
        return "\n".join([*lines, ""])

    # --- One request --------------------------------------------------------------------------------------------------

    def allow(self, host, service, headers):
        """The job that asks, and the status where it may not; None where it may."""
        private = self.private and host == HOST
        token = next((_token(value) for value in headers), None)
        job = self.tokens.get(token, "")
        level = SERVICES[service]
        if len(headers) > 1:
            return job, 400  # GitHub refuses two of them
        if token is None and (private or level == "write") or token is not None and not job:
            return job, 401
        granted = self.rights.get(job, "none")
        if (private or level == "write") and granted not in ("write", level):
            return job, 403
        return job, None

    def answer(self, host, method, target, headers, body):
        """The status, headers and content of an answer."""
        url = urlsplit(target)
        given = tuple(headers.get_all("Authorization") or ())
        asked = re.fullmatch(rf"/{re.escape(self.name)}(?:\.git)?(/info/refs|/git-(?:upload|receive)-pack)", url.path)
        service = asked and (asked[1].strip("/") if method == "POST" else url.query.removeprefix("service="))
        job, status, content, more = "", 404, b"not here\n", {"Content-Type": "text/plain"}
        if asked and service in SERVICES:
            job, status = self.allow(host, service, given)
            content = f"the token of {job or 'nobody'} may not {SERVICES[service]} the contents\n".encode()
            if self.moved and host == HOST:
                status, more = 301, {"Location": f"https://{ELSEWHERE}{target}"}
            if status == 401:
                more |= {"WWW-Authenticate": 'Basic realm="GitHub"'}
            if status is None:
                status, more, content = self._backend(method, asked[1], url.query, headers, body, job)
        self.requests.append(Request(host, target, given, job, status))
        return status, more, content

    def _backend(self, method, path, query, headers, body, job):
        variables = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROJECT_ROOT": str(self.bare.parent),
            "PATH_INFO": f"/{self.bare.name}{path}",
            "QUERY_STRING": query,
            "REQUEST_METHOD": method,
            "REMOTE_USER": job or "anybody",
            "CONTENT_TYPE": headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=variables, capture_output=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        told = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        return int(told.pop("Status", "200").split()[0]) if told else 500, told, content


def basic(token):
    """The header with which git sends a token to GitHub."""
    return "AUTHORIZATION: basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()


def _token(header):
    """The token in a header; no token is the empty one."""
    kind, _, text = header.partition(" ")
    try:
        return base64.b64decode(text, validate=True).decode().partition(":")[2] if kind.lower() == "basic" else ""
    except ValueError:
        return ""


def _certificate(folder, hosts):
    """A file with a key and a certificate of its own for these hosts."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    plain = serialization.NoEncryption()
    kept = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(kept + certificate.public_bytes(serialization.Encoding.PEM))
    return file


class _Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A client that was ended, as the tests do, is no error of this one."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    host = ""

    def do_CONNECT(self):
        self.host = self.path.partition(":")[0]
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile.close()
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.close_connection = False

    def do_GET(self):
        body = (
            self._chunks()
            if "chunked" in self.headers.get("Transfer-Encoding", "")
            else self.rfile.read(int(self.headers.get("Content-Length") or 0))
        )
        status, headers, content = self.server.git.answer(self.host, self.command, self.path, self.headers, body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def _chunks(self):
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def finish(self):
        with contextlib.suppress(OSError):
            super().finish()
        if isinstance(self.connection, ssl.SSLSocket):
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()

    def log_message(self, *_):
        """What was asked is in `requests`."""
