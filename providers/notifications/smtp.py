"""Notices by e-mail over SMTP: one connection and one message per notice.

A mail server keeps no record that could be asked. The `Message-ID` is made of the notice's key, so a message that
went out twice (the reply to DATA was lost, or its reader died before it was written down) can be known as one.
Nothing that a server says is passed on in words: replies quote the address.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, localtime
from enum import StrEnum
from typing import Final

import aiosmtplib

from providers.notifications import NoticeLookUp, NoticeRequest
from providers.outcomes import Absent, NotSent, Ok, Outcome, ProviderUnavailable, Refused, Unknown

DEFAULT_TIME_LIMIT_S: Final = 10.0
RETRY_AFTER_S: Final = 5.0
CONFIGURATION_RETRY_S: Final = 300.0
"""Between tries when the server takes none of our messages: somebody has to change a setting first."""
_GOODBYE_LIMIT_S: Final = 1.0
_FINAL: Final = 500


class TlsMode(StrEnum):
    """How the connection is protected."""

    STARTTLS = "starttls"  # refused when the server does not offer it
    TLS = "tls"  # from the first byte
    NONE = "none"  # a relay on this machine


_PORTS: Final = {TlsMode.STARTTLS: 587, TlsMode.TLS: 465, TlsMode.NONE: 25}


@dataclass(frozen=True)
class SmtpAccount:
    """Where mail is handed in, and in whose name. Without `user` nobody logs in."""

    host: str
    sender: str
    sender_name: str = ""
    port: int | None = None
    tls: TlsMode = TlsMode.STARTTLS
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    authorities: str | None = None
    """A file with the certificate authorities to trust instead of the system's."""

    @property
    def domain(self) -> str:
        """The domain of the sender's address, for message ids."""
        return self.sender.rpartition("@")[2]


class NoAddress(ValueError):
    """The text is no address that mail can go to, or come from."""


class SmtpNotifications:
    """A `NotificationProvider` that hands in e-mail. Raises `NoAddress` when the sender's is none."""

    def __init__(self, account: SmtpAccount, time_limit_s: float = DEFAULT_TIME_LIMIT_S) -> None:
        self._account = account
        self._from = _address(account.sender, account.sender_name)
        self._time_limit_s = time_limit_s

    async def send(self, request: NoticeRequest) -> Outcome:
        """See `NotificationProvider.send`. A 4xx reply is `NotSent`; a 5xx one to recipient or content is final."""
        if request.channel != "email":
            return Refused(code="medium_not_supported", detail="this provider sends e-mail only")
        message = self._message(request)
        if message is None:
            return Refused(code="address_unusable", detail="this is no address that mail can be sent to")
        begun = done = False
        try:
            async with asyncio.timeout(self._time_limit_s), self._connected() as client:
                begun = True
                await client.send_message(message, sender=self._account.sender, recipients=[request.address])
                done = True
        except NotSent:
            raise
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _refused(max(refusal.code for refusal in error.recipients))
        except (aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPDataError) as error:
            return _refused(error.code)
        except aiosmtplib.SMTPResponseException as error:
            raise NotSent(_pause(error.code), f"the mail server answered {error.code}") from None
        except (aiosmtplib.SMTPNotSupported, ValueError):
            return Refused(code="address_unusable", detail="the mail server cannot take such an address")
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            if begun and not done:
                return Unknown(why=f"the mail server did not answer to the end: {type(error).__name__}")
            if not begun:
                raise NotSent(RETRY_AFTER_S, f"the mail server does not answer: {type(error).__name__}") from None
        return Ok(provider_ref=str(message["Message-ID"]))

    async def look_up(self, key: str) -> NoticeLookUp:
        """See `NotificationProvider.look_up`. Always absent: mail servers keep no record; but one must answer."""
        try:
            async with asyncio.timeout(self._time_limit_s), self._connected():
                return Absent()
        except NotSent as problem:
            raise ProviderUnavailable(problem.retry_after_s, str(problem)) from None
        except TimeoutError:
            raise ProviderUnavailable(RETRY_AFTER_S, "the mail server does not answer in time") from None

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[aiosmtplib.SMTP]:
        """A connection, logged in where the account says so. Raises `NotSent`."""
        account = self._account
        client = aiosmtplib.SMTP(
            hostname=account.host,
            port=account.port or _PORTS[account.tls],
            username=account.user,
            password=account.password,
            use_tls=account.tls is TlsMode.TLS,
            start_tls=account.tls is TlsMode.STARTTLS,
            tls_context=None if account.tls is TlsMode.NONE else ssl.create_default_context(cafile=account.authorities),
            timeout=self._time_limit_s,
        )
        try:
            await client.connect()
        except aiosmtplib.SMTPResponseException as error:
            raise NotSent(_pause(error.code), f"the mail server answered {error.code}") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise NotSent(RETRY_AFTER_S, f"the mail server cannot be reached: {type(error).__name__}") from None
        try:
            yield client
            # The message is handed in: a goodbye that fails changes nothing.
            with suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                await client.quit(timeout=_GOODBYE_LIMIT_S)
        finally:
            client.close()

    def _message(self, request: NoticeRequest) -> EmailMessage | None:
        """The message; None when the address is none."""
        message = EmailMessage()
        message["From"] = self._from
        try:
            message["To"] = _address(request.address)
        except NoAddress:
            return None
        message["Subject"] = request.subject
        message["Date"] = format_datetime(localtime())
        message["Message-ID"] = f"<{request.key}@{self._account.domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(request.text)
        if request.html:
            message.add_alternative(request.html, subtype="html")
        return message


def _address(text: str, name: str = "") -> Address:
    try:
        return Address(display_name=name, addr_spec=text)
    except (ValueError, IndexError, MessageError):  # the standard library raises any of them
        raise NoAddress("this is no address of e-mail") from None


def _refused(code: int) -> Refused:
    """A reply to this recipient or this content. Raises `NotSent` for one that may be another tomorrow."""
    if code < _FINAL:
        raise NotSent(RETRY_AFTER_S, f"the mail server answered {code}") from None  # its words quote the address
    return Refused(code=f"smtp_{code}", detail="the mail server takes no such message for this address")


def _pause(code: int) -> float:
    return CONFIGURATION_RETRY_S if code >= _FINAL else RETRY_AFTER_S
