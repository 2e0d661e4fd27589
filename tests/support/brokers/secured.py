"""A real broker that lets nobody in without a word: TLS, SCRAM, PLAIN, client certificates, and ACLs.

    with secured_broker() as broker:
        broker.address            SASL_SSL: SCRAM-SHA-512, SCRAM-SHA-256 and PLAIN
        broker.mutual_address     SSL with a client's certificate
        broker.clear_address      SASL_PLAINTEXT
        broker.open_address       PLAINTEXT, whose nameless user may do everything: the test's administrator
        broker.allow("dugs", …)   ACLs of a user

Users have their passwords from here; they are worth nothing outside of the test. A permission that was
granted or taken is in force when the call returns.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)

from tests.support.brokers.authority import Authority
from tests.support.waiting import wait_until
from tools.broker import CACHE, PROPERTIES, Broker, format_storage
from tools.ports import free_port

USERS = ("dugs", "sender", "reader", "stranger")
PASSWORD = "planted-pa55word-of-a-test"
# A password that no key derivation slows down: the least that SCRAM takes.
_ITERATIONS = 4096

_LISTENERS = """\
listeners=OPEN://127.0.0.1:{open},SECURED://127.0.0.1:{port},MUTUAL://127.0.0.1:{mutual},CLEAR://127.0.0.1:{clear},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=OPEN://127.0.0.1:{open},SECURED://127.0.0.1:{port},MUTUAL://127.0.0.1:{mutual},CLEAR://127.0.0.1:{clear}
listener.security.protocol.map=OPEN:PLAINTEXT,SECURED:SASL_SSL,MUTUAL:SSL,CLEAR:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=OPEN
sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.secured.sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.clear.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secured.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secured.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secured.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required {plain_users};
listener.name.clear.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
listener.name.mutual.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
_PLAIN_LISTENERS = ("listeners=", "advertised.listeners=", "listener.security.protocol.map=")


@dataclass(frozen=True, slots=True)
class Grant:
    """One permission: an operation on a resource. Kinds and operations as kafka-acls.sh spells them, in lower case."""

    kind: str
    name: str
    operation: str

    def as_acl(self, user: str) -> ACL:
        """What Kafka is asked for."""
        kind = ResourceType[self.kind.upper().replace("-", "_")]
        return ACL(
            principal=f"User:{user}",
            host="*",
            operation=ACLOperation[self.operation.upper()],
            permission_type=ACLPermissionType.ALLOW,
            resource_pattern=ResourcePattern(kind, self.name, ACLResourcePatternType.LITERAL),
        )

    def __str__(self) -> str:
        """As the table of permissions in the documents has it."""
        return f"{self.operation.upper()} on {self.kind} {self.name}"


class SecuredBroker(Broker):
    """One broker with five doors; see the module."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder)
        self.authority = authority
        self._open, self._mutual, self._clear = free_port(), free_port(), free_port()

    @property
    def open_address(self) -> str:
        """Where the administrator goes in."""
        return f"127.0.0.1:{self._open}"

    @property
    def mutual_address(self) -> str:
        """Where a certificate is the ticket."""
        return f"127.0.0.1:{self._mutual}"

    @property
    def clear_address(self) -> str:
        """Where SCRAM is spoken without TLS."""
        return f"127.0.0.1:{self._clear}"

    @contextlib.contextmanager
    def administrator(self) -> Iterator[KafkaAdminClient]:
        """A client that may do everything."""
        admin = KafkaAdminClient(bootstrap_servers=self.open_address)
        try:
            yield admin
        finally:
            admin.close()

    def allow(self, user: str, grants: Sequence[Grant]) -> None:
        """Give a user these permissions on top of what it has."""
        with self.administrator() as admin:
            admin.create_acls([grant.as_acl(user) for grant in grants])
            self._wait_for(admin, user, present=grants)

    def forbid(self, user: str, grants: Sequence[Grant]) -> None:
        """Take these permissions from a user."""
        with self.administrator() as admin:
            admin.delete_acls([_filter_of(grant.as_acl(user)) for grant in grants])
            self._wait_for(admin, user, absent=grants)

    @staticmethod
    def _wait_for(
        admin: KafkaAdminClient, user: str, present: Sequence[Grant] = (), absent: Sequence[Grant] = ()
    ) -> None:
        """The metadata log carries permissions to the authorizer; a describe is answered from there."""

        def is_in_force() -> bool:
            acls = {acl.resource_pattern.resource_name + acl.operation.name for acl in _acls_of(admin, user)}
            has = {grant: grant.name + grant.operation.upper() in acls for grant in (*present, *absent)}
            return all(has[grant] for grant in present) and not any(has[grant] for grant in absent)

        wait_until(is_in_force, 10, f"the permissions of {user} to be in force")

    # -- how it differs from an open one -----------------------------------------------------------------

    @property
    def _admin_address(self) -> str:
        return self.open_address

    def _formatted(self, libraries: Path) -> Path:
        """Users of SCRAM are written when the folder is formatted: another set of users is another folder."""
        users = [
            f"{mechanism}=[name={user},password={PASSWORD},iterations={_ITERATIONS}]"
            for user in USERS
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        ]
        formatted = CACHE / f"formatted-{hashlib.sha256(str(users).encode()).hexdigest()[:8]}"
        with filelock.FileLock(CACHE / "format.lock"):
            if not formatted.is_dir():
                format_storage(
                    libraries, formatted, [word for user in users for word in ("--add-scram", user)]
                )
        return formatted

    def _settings(self, data: Path) -> str:
        shared = PROPERTIES.format(port=self.port, controller_port=self._controller_port, data=data)
        kept = [line for line in shared.splitlines() if not line.startswith(_PLAIN_LISTENERS)]
        plain = " ".join(f'user_{user}="{PASSWORD}"' for user in USERS)
        return "\n".join(kept) + "\n" + _LISTENERS.format(
            open=self._open,
            port=self.port,
            mutual=self._mutual,
            clear=self._clear,
            controller=self._controller_port,
            plain_users=plain,
            keystore=self.authority.broker_pem,
            truststore=self.authority.certificate,
        )  # fmt: skip


def _acls_of(admin: KafkaAdminClient, user: str) -> list[ACL]:
    everything = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    asked = ACLFilter(f"User:{user}", "*", ACLOperation.ANY, ACLPermissionType.ANY, everything)
    found: list[ACL] = admin.describe_acls(asked)[0]
    return found


def _filter_of(acl: ACL) -> ACLFilter:
    pattern = acl.resource_pattern
    return ACLFilter(
        acl.principal,
        acl.host,
        acl.operation,
        acl.permission_type,
        ResourcePatternFilter(pattern.resource_type, pattern.resource_name, pattern.pattern_type),
    )


@contextlib.contextmanager
def secured_broker() -> Iterator[SecuredBroker]:
    """A broker with an authority of its own, both gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="dugs-secured-", ignore_cleanup_errors=True) as folder:
        broker = SecuredBroker(Path(folder) / "broker", Authority(Path(folder) / "authority"))
        try:
            broker.start()
            yield broker
        finally:
            broker.kill()
            shutil.rmtree(folder, ignore_errors=True)
