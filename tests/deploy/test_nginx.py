"""nginx in front, as Compose runs it: its limits are the service's, and a real one passes on who asks."""

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from service.settings import Settings
from tests.deploy import manifests
from tests.service.conftest import PATIENCE, Server, arrays, build_models, free_port, wait_for
from tests.service.in_process import SECRETS, entry

FILE = manifests.ROOT / "deploy" / "nginx" / "nginx.conf"
TEXT = FILE.read_text()
CLIENT = "127.0.0.2"


def value(directive: str) -> str:
    (found,) = re.findall(rf"^\s*{directive} ([^;]+);", TEXT, re.MULTILINE)
    return found


def test_its_limits_are_those_of_the_service_behind_it():
    composed = manifests.compose()["services"]
    largest = composed["service"]["environment"]["GAUNTLET_MAX_UPLOAD"]
    assert int(value("client_max_body_size").removesuffix("m")) * 2**20 == largest
    assert float(value("proxy_read_timeout").removesuffix("s")) > Settings.model_fields["attack_deadline"].default
    assert re.findall(r"server (\S+:\d+);", TEXT) == [f"service:{Settings.model_fields['port'].default}"]
    assert composed["proxy"]["ports"] == [f"127.0.0.1:3000:{value('listen')}"]
    assert f"../nginx/nginx.conf:{'/etc/nginx/nginx.conf'}:ro" in composed["proxy"]["volumes"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed; on Debian: apt-get install nginx")
    folder = tmp_path_factory.mktemp("behind")
    build_models(folder)
    (folder / "keys").write_text(entry("read", SECRETS["read"], "read"))
    settings = {"keys_file": folder / "keys", "log_format": "json", "trusted_proxies": "127.0.0.1", "local_workers": 0}
    running = Server(folder, settings)
    running.start("/livez")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def proxy(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of nginx, with the file as it is but for ports and folders."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    folder.chmod(0o755)
    text = TEXT.replace("server service:3000;", f"server 127.0.0.1:{server.port};")
    text = text.replace("listen 8080;", f"listen {port};").replace("/tmp/", f"{folder}/")
    file = folder / "nginx.conf"
    file.write_text(text)
    subprocess.run(["nginx", "-t", "-c", file], check=True, capture_output=True, text=True)
    with subprocess.Popen(["nginx", "-c", file, "-g", "daemon off;"]) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: httpx.get(f"{address}/livez").status_code == 200 or process.poll() is not None)
            assert process.poll() is None
            yield address
        finally:
            process.terminate()
            process.wait(PATIENCE)


@pytest.mark.slow
def test_a_request_through_it_is_answered_and_counted_as_its_clients(server: Server, proxy: str):
    transport = httpx.HTTPTransport(local_address=CLIENT)
    with httpx.Client(base_url=proxy, transport=transport, timeout=PATIENCE) as client:
        body, key = {"model": "linear", "images": arrays(2)}, {"X-API-Key": SECRETS["read"]}
        wait_for(lambda: client.post("/classify", json=body, headers=key).status_code == 200)
        spoofed = {"X-Forwarded-For": "192.0.2.1", "X-Request-ID": "spoofed"}
        assert client.post("/classify", json=body, headers=spoofed).status_code == 401
        (line,) = wait_for(lambda: server.entries('"spoofed"'))[:1]
        assert line["client"] == CLIENT


@pytest.mark.slow
def test_metrics_and_too_large_files_stop_at_it(proxy: str):
    assert httpx.get(f"{proxy}/metrics").status_code == 404
    request = f"POST /models HTTP/1.1\r\nHost: x\r\nContent-Length: {2**30}\r\n\r\n"
    host, port = proxy.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        connection.sendall(request.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
