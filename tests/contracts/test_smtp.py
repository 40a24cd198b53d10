"""Notices over SMTP, against a real mail server on a port of its own: what counts as sent, refused and unknown."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from devstack.ports import choose_ports, scattered_ports
from providers.catalog import AdapterNotSetUp, ProviderChoice, make_providers
from providers.notifications import NoticeRequest
from providers.notifications.smtp import SmtpAccount, SmtpNotifications, TlsMode
from providers.outcomes import Absent, NotSent, Ok, ProviderUnavailable, Refused, Unknown

ADDRESS = "jamie@example.com"
NOTICE = NoticeRequest(
    key="ntc_01M84BZNW0ABCDEFGHJKMNPQRS",
    order_id="ord_1",
    channel="email",
    address=ADDRESS,
    kind="shipped",
    subject="Größere Bestellung unterwegs",
    text="Guten Tag Zoë,\n\nsie kommt bald.\n",
    html="<p>Guten Tag Zoë,</p>",
)
LIMIT_S = 0.5


@dataclass
class MailRoom:
    """What the server does with what it gets. `answers` are given once each, by command, then it takes everything."""

    port: int
    answers: dict[str, list[str]] = field(default_factory=dict)
    silent_at: str = ""
    mail: list[bytes] = field(default_factory=list)
    tried: int = 0

    def account(self, **changes: Any) -> SmtpAccount:
        """How to reach it."""
        return replace(
            SmtpAccount(host="127.0.0.1", port=self.port, sender="shop@shop.example", tls=TlsMode.NONE), **changes
        )

    @property
    def messages(self) -> list[EmailMessage]:
        """Everything that it took."""
        return [message_from_bytes(content, policy=policy.default) for content in self.mail]  # type: ignore[misc]

    async def _answer(self, command: str) -> str:
        if self.silent_at == command:
            await asyncio.sleep(LIMIT_S * 4)
        return self.answers.get(command, []).pop(0) if self.answers.get(command) else "250 OK"

    async def handle_MAIL(  # noqa: N802 - as aiosmtpd names it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """The sender."""
        self.tried += 1
        envelope.mail_from = address
        return await self._answer("MAIL")

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """The recipient."""
        envelope.rcpt_tos.append(address)
        return await self._answer("RCPT")

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """The message; kept before the answer, as a server does whose answer then is lost."""
        answer = self.answers.get("DATA", []).pop(0) if self.answers.get("DATA") else "250 OK"
        if answer.startswith("250"):
            self.mail.append(bytes(envelope.content or b""))
        if self.silent_at == "DATA":
            await asyncio.sleep(LIMIT_S * 4)
        return answer


Start = Callable[..., MailRoom]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts mail servers; takes the options of aiosmtpd's controller."""
    controllers: list[Controller] = []

    def _start(**options: Any) -> MailRoom:
        room = MailRoom(choose_ports({"api": scattered_ports()["api"]})["api"])
        controllers.append(Controller(room, hostname="127.0.0.1", port=room.port, **options))
        controllers[-1].start()
        return room

    yield _start
    for controller in controllers:
        controller.stop()


@pytest.fixture
def room(start: Start) -> MailRoom:
    """A server without TLS, which takes everything."""
    return start()


async def _raises(call: Awaitable[object], kind: type[Exception]) -> str:
    """What the refusal says: never the address, nor what the server said."""
    with pytest.raises(kind) as problem:
        await call
    assert "jamie" not in f"{problem.value} {problem.value.__cause__}"
    assert problem.value.__suppress_context__  # a logged traceback must not show the reply either
    return str(problem.value)


async def test_a_notice_is_delivered_once(room: MailRoom) -> None:
    """One message with both parts, from the shop to the customer, with the Message-ID that its key gives."""
    outcome = await SmtpNotifications(room.account(sender_name="The Shop")).send(NOTICE)
    message_id = "<ntc_01M84BZNW0ABCDEFGHJKMNPQRS@shop.example>"
    assert outcome == Ok(provider_ref=message_id)
    (message,) = room.messages
    assert (message["To"], message["From"]) == (ADDRESS, "The Shop <shop@shop.example>")
    assert (message["Subject"], message["Message-ID"]) == (NOTICE.subject, message_id)
    assert message["Auto-Submitted"] == "auto-generated"
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert (plain.get_content().replace("\r\n", "\n"), html.get_content().strip()) == (NOTICE.text, NOTICE.html)


async def test_the_same_key_has_the_same_message_id(room: MailRoom) -> None:
    """A mail server cannot be asked: what was sent twice can be known as one by its id."""
    post = SmtpNotifications(room.account())
    assert await post.send(NOTICE) == await post.send(NOTICE)
    assert await post.look_up(NOTICE.key) == Absent()
    assert len({message["Message-ID"] for message in room.messages}) == 1


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
async def test_a_temporary_refusal_is_tried_again(room: MailRoom, command: str) -> None:
    """4xx at any step: nothing was sent; the next attempt arrives."""
    room.answers[command] = [f"451 4.3.0 {ADDRESS} not now"]
    post = SmtpNotifications(room.account())
    assert "451" in await _raises(post.send(NOTICE), NotSent)
    assert room.mail == []
    assert isinstance(await post.send(NOTICE), Ok)
    assert len(room.mail) == 1


@pytest.mark.parametrize(("command", "code"), [("RCPT", 550), ("DATA", 554)])
async def test_a_permanent_refusal_is_final(room: MailRoom, command: str, code: int) -> None:
    """5xx to the recipient or the content: a code, and not the server's words, which quote the address."""
    room.answers[command] = [f"{code} 5.1.1 <{ADDRESS}>: no such person"]
    outcome = await SmtpNotifications(room.account()).send(NOTICE)
    assert isinstance(outcome, Refused)
    assert outcome.code == f"smtp_{code}"
    assert "jamie" not in outcome.model_dump_json()
    assert (room.mail, room.tried) == ([], 1)


async def test_a_sender_that_is_refused_is_no_verdict_on_the_customer(room: MailRoom) -> None:
    """5xx to ourselves is a setting to be changed: the notice waits longer, and has not failed."""
    room.answers["MAIL"] = ["550 5.7.1 who are you"]
    with pytest.raises(NotSent) as problem:
        await SmtpNotifications(room.account()).send(NOTICE)
    assert problem.value.retry_after_s == 300


async def test_nobody_listens(room: MailRoom) -> None:
    """Connection refused: not sent, tried again; and asking is not possible."""
    free = choose_ports({"api": scattered_ports()["api"]})["api"]
    post = SmtpNotifications(room.account(port=free), LIMIT_S)
    await _raises(post.send(NOTICE), NotSent)
    await _raises(post.look_up(NOTICE.key), ProviderUnavailable)


async def test_a_server_that_says_nothing(room: MailRoom) -> None:
    """It takes the connection and never greets: nothing was sent."""

    async def mute(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(LIMIT_S * 4)
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        post = SmtpNotifications(room.account(port=server.sockets[0].getsockname()[1]), LIMIT_S)
        began = asyncio.get_running_loop().time()
        await _raises(post.send(NOTICE), NotSent)
        await _raises(post.look_up(NOTICE.key), ProviderUnavailable)
        assert asyncio.get_running_loop().time() - began < LIMIT_S * 4


async def test_an_answer_that_never_comes_is_unknown(room: MailRoom) -> None:
    """The message is there, the reply to it is not: nobody may read that as sent, or as not sent."""
    room.silent_at = "DATA"
    outcome = await SmtpNotifications(room.account(), LIMIT_S).send(NOTICE)
    assert isinstance(outcome, Unknown)
    assert len(room.mail) == 1
    assert "jamie" not in outcome.why


@pytest.mark.parametrize("address", ["not an address", "a@b@c", "x\r\nBcc: other@example.com", "jörg@example.com"])
async def test_an_address_that_mail_cannot_go_to_is_refused(room: MailRoom, address: str) -> None:
    """Nothing reaches the server, least of all a header of somebody's own making."""
    outcome = await SmtpNotifications(room.account()).send(NOTICE.model_copy(update={"address": address}))
    assert isinstance(outcome, Refused)
    assert (outcome.code, room.mail) == ("address_unusable", [])


async def test_only_e_mail_goes_by_mail(room: MailRoom) -> None:
    """A text message is refused, not mailed."""
    outcome = await SmtpNotifications(room.account()).send(NOTICE.model_copy(update={"channel": "sms"}))
    assert isinstance(outcome, Refused)
    assert (outcome.code, room.tried) == ("medium_not_supported", 0)


# --- TLS and login ------------------------------------------------------------------------------------


def _certificate(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server's side of TLS for `localhost`, and the file that makes a client trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(pem + secret)
    (folder / "trusted.pem").write_bytes(pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    return context, str(folder / "trusted.pem")


def _porter(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    known = isinstance(data, LoginPassword) and (data.login, data.password) == (b"shop", b"secret")
    return AuthResult(success=known, handled=False)


async def test_starttls_and_login(start: Start, tmp_path: Path) -> None:
    """The certificate is checked, the password goes through TLS only, and a wrong one is a setting to be changed."""
    context, trusted = _certificate(tmp_path)
    room = start(tls_context=context, require_starttls=True, authenticator=_porter, auth_required=True)
    account = room.account(host="localhost", tls=TlsMode.STARTTLS, authorities=trusted, user="shop", password="secret")
    assert isinstance(await SmtpNotifications(account).send(NOTICE), Ok)
    for wrong in (replace(account, password="wrong"), replace(account, authorities=None)):
        await _raises(SmtpNotifications(wrong).send(NOTICE), NotSent)
    assert len(room.mail) == 1
    assert "secret" not in repr(account)


async def test_without_starttls_nothing_is_sent_in_the_clear(room: MailRoom, start: Start) -> None:
    """A server that offers no TLS gets no message where TLS is asked for: nobody falls back."""
    for mode in (TlsMode.STARTTLS, TlsMode.TLS):
        await _raises(SmtpNotifications(room.account(tls=mode), LIMIT_S).send(NOTICE), NotSent)
    assert (room.mail, room.tried) == ([], 0)


async def test_the_adapter_needs_its_settings(room: MailRoom, tmp_path: Path) -> None:
    """Chosen without a host it is refused by name, before any file is made; with one it sends."""
    choice = ProviderChoice(notifications="smtp", simulated_state=tmp_path / "s.db")
    with pytest.raises(AdapterNotSetUp, match="ACCORD_SMTP_HOST"):
        make_providers(choice)
    with pytest.raises(AdapterNotSetUp, match="ACCORD_SMTP_SENDER"):
        make_providers(replace(choice, smtp=room.account(sender="a@b@c")))
    with make_providers(replace(choice, smtp=room.account())) as providers:
        assert isinstance(await providers.notifications.send(NOTICE), Ok)
