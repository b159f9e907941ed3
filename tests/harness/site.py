"""The setup of one end-to-end test: a project with its databases, servers and clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.harness import databases, processes
from tests.harness.client import Client
from tests.harness.project import SECRETS, Options, Project
from tests.harness.servers import WebServer

if TYPE_CHECKING:
    import contextlib
    from pathlib import Path

    from tests.harness.database import Database
    from tests.harness.pairs import Pair
    from tests.harness.prepared import Prepared


class Site:
    """A served project, and everything that must be cleaned up afterwards."""

    def __init__(self, pair: Pair, project: Project) -> None:
        self.pair = pair
        self.project = project
        self.servers: list[WebServer] = []
        self.clients: list[Client] = []

    @property
    def database(self) -> Database:
        """The database behind the alias `default`."""
        return self.project.database

    @property
    def server(self) -> WebServer:
        """The server that was started first."""
        return self.servers[0]

    def serve(self, project: Project | None = None, **words: Any) -> WebServer:
        """Start a server, for this project or another one beside it."""
        server = WebServer(project or self.project, self.pair.kind, **words)
        self.servers.append(server)
        server.start()
        return server

    def client(self, who: str | None = "ci", *, server: WebServer | None = None) -> Client:
        """Return a client: with the token of this name, or anonymous."""
        client = Client((server or self.server).url, token=SECRETS[who] if who else None)
        self.clients.append(client)
        return client

    def person(self, name: str, *, at: str = "/admin/login/") -> Client:
        """Return a client that has signed in."""
        client = self.client(None)
        answer = client.sign_in(name, at=at)
        assert answer.status_code == 302, answer.text
        return client

    def beside(self, name: str, options: Options | None = None) -> Project:
        """Copy the project, as a deploy would, into a second folder on the same
        databases."""
        folder = self.project.folder.parent / name
        return Project(folder, self.project.databases, options or self.project.options)

    def applied(self, app: str = "shop") -> list[str]:
        """Return an app's recorded migrations, read over a fresh connection."""
        return self.database.applied(app)

    def has_column(self, column: str, table: str = "shop_item") -> bool:
        """Look up a column over a fresh connection."""
        return column in self.database.columns(table)

    def names(self) -> list[str]:
        """Read the names of the items over a fresh connection."""
        return [name for (name,) in self.rows("SELECT name FROM shop_item ORDER BY id")]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Read over a fresh connection."""
        return self.database.rows(query)

    def execute(self, *statements: str) -> None:
        """Write over a fresh connection."""
        self.database.execute(*statements)

    def stop(self) -> None:
        """End everything, and print the output of the servers."""
        for client in self.clients:
            client.http.close()
        for server in self.servers:
            server.stop()
        processes.end_all_in(self.project.folder.parent)
        for server in self.servers:
            print(  # noqa: T201 - pytest shows it when the test fails
                f"--- log of {server.kind}\n{server.log.read_text()[-6000:]}"
            )


class Sites:
    """Builds sites in the folder of one test, and removes what is left when `leftovers`
    closes."""

    def __init__(
        self, folder: Path, prepared: Prepared, leftovers: contextlib.ExitStack
    ) -> None:
        self.folder = folder
        self.prepared = prepared
        self.leftovers = leftovers

    def build(
        self,
        pair: Pair,
        migrations: dict[str, str] | None = None,
        *,
        empty: tuple[str, ...] = (),
        others: tuple[str, ...] = (),
        options: Options | None = None,
        serve: bool = True,
        **server: Any,
    ) -> Site:
        """Build a site: `default` is already in use unless it is named in `empty`.

        `others` are additional aliases, each with its own empty database; `server`
        overrides the arguments of `WebServer`.
        """
        options = options or Options()
        if pair.vendor in (missing := databases.missing()):
            raise databases.NotHere(f"{pair.vendor}: {missing[pair.vendor]}")
        aliases = {
            alias: self._database(pair.vendor, options, empty=alias in (*others, *empty))
            for alias in ("default", *others)
        }
        project = Project(self.folder / "project", aliases, options)
        project.add_migrations(migrations or {})
        site = Site(pair, project)
        self.leftovers.callback(site.stop)
        if serve:
            site.serve(**server)
        return site

    def _database(self, vendor: str, options: Options, *, empty: bool) -> Database:
        database = (
            databases.create(vendor, self.folder)
            if empty
            else self.prepared.copy(vendor, self.folder, custom_user=options.custom_user)
        )
        self.leftovers.callback(database.drop)
        return database
