"""Session: volumes open in the viewer, at a URL, until it is closed."""

from __future__ import annotations

import atexit
import html
import json
import os
import secrets
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from neuroglancer.viewer_base import ViewerBase

from radiobject.errors import SelectionError
from radiobject.show.units import in_mm
from radiobject.show.viewer.layers import label_document, layer_of, source_of
from radiobject.show.viewer.panels import first_state
from radiobject.show.viewer.server import ViewerServer

if TYPE_CHECKING:
    from radiobject.model.volume import Volume

__all__ = ["ViewerSession"]

_open: set[ViewerSession] = set()
"""Sessions that nobody closed: a notebook's cell need not keep what it shows."""


class ViewerSession:
    """Volumes open in Neuroglancer; `layers` has them by the names of their layers.

    The first image and all labels are visible, the other images a click away. `url` opens in any browser of
    this machine. The server runs in threads of its own until `close()`, the end of a `with` block or of the
    process. `viewer` is Neuroglancer's own object: `viewer.txn()` changes what is shown.

    In a notebook the session shows itself. On a JupyterHub the URL goes through jupyter-server-proxy.
    """

    def __init__(self, volumes: Mapping[str, Volume], title: str = "", port: int = 0) -> None:
        if not volumes:
            raise SelectionError("view", expected="at least one volume", got="none")
        placed = {name: in_mm(volume) for name, volume in volumes.items()}
        sources = {name: source_of(volume) for name, volume in placed.items()}
        keys = {name: str(number) for number, name in enumerate(sources)}
        labels = {keys[name]: volume for name, volume in volumes.items() if volume.meta.kind == "label"}
        self.layers, self.title = dict(volumes), title
        self._prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
        self._token = secrets.token_hex(16)
        self.viewer = ViewerBase(token=self._token)
        self._server = ViewerServer(
            self._token,
            {keys[name]: source.files for name, source in sources.items() if source.files is not None},
            {f"{key}/labels/info": label_document(volume) for key, volume in labels.items()},
            self._moved,
            port=port,
            proxied=bool(self._prefix),
        )
        self._server.viewers[self._token] = self.viewer
        self._base = f"http://127.0.0.1:{self.port}/"
        _open.add(self)
        try:
            drawn = {name: layer_of(source, f"{self._data}{keys[name]}/") for name, source in sources.items()}
            self.viewer.set_state(first_state(placed, drawn, title))
            with self.viewer.config_state.txn() as page:
                page.show_layer_panel = False  # one list of layers at the side, not one above each panel
        except BaseException:
            self.close()
            raise

    @property
    def port(self) -> int:
        """The port on 127.0.0.1: the only one that a tunnel has to carry."""
        port: int = self._server.port
        return port

    @property
    def url(self) -> str:
        """Where a browser finds the viewer; on a JupyterHub a path on the host of the hub.

        Who knows it sees the volumes: its last part is a secret of this session.
        """
        base = f"{self._prefix}proxy/{self.port}/" if self._prefix else f"http://127.0.0.1:{self.port}/"
        return f"{base}open/{self._token}/"

    @property
    def _data(self) -> str:
        return f"{self._base}data/{self._token}/"

    def _moved(self, base: str) -> None:
        """Take the files from where the browser found the page."""
        old, self._base = self._data, base
        state = json.dumps(self.viewer.state.to_json())
        self.viewer.set_state(json.loads(state.replace(old, self._data)))

    def close(self) -> None:
        """Stop the server; the page shows nothing new from then on. Closing twice does nothing."""
        if self in _open:
            _open.remove(self)
            self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _repr_html_(self) -> str:
        url = html.escape(self.url)
        return (
            f'<a href="{url}" target="_blank">Open the viewer in a tab of its own</a>'
            f'<iframe src="{url}" width="100%" height="600" style="border: 0"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<ViewerSession {self.url}{'' if self in _open else ' (closed)'}>"


@atexit.register
def _close_all() -> None:
    for session in list(_open):
        session.close()
