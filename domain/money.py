"""What an amount of money is, how it is written and how it is divided without losing a unit. Owner: finance.

Amounts are whole numbers of a currency's minor unit; nothing here uses floats or decimals.
"""

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, StrictInt, field_validator

# Exponents of ISO 4217 (list one, 2026) of the currencies one can be paid in. Funds codes, precious
# metals and test codes are left out on purpose: no order is priced in them.
_DIGITS_0 = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_DIGITS_3 = "BHD IQD JOD KWD LYD OMR TND"
_DIGITS_2 = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY
COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF
IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR
MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG
SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES
WST XCD XCG YER ZAR ZMW ZWG
"""
_DIGITS = {code: digits for digits, codes in ((0, _DIGITS_0), (2, _DIGITS_2), (3, _DIGITS_3)) for code in codes.split()}


class UnknownCurrency(ValueError):
    """The code is not an ISO 4217 currency that an order can be priced in."""

    code = "unknown_currency"

    def __init__(self, currency: str) -> None:
        super().__init__(f"{currency[:16]!r} is no ISO 4217 currency code in use; write it like 'USD'")


class CurrencyMismatch(ValueError):
    """Two amounts of different currencies met in one calculation."""

    code = "currency_mismatch"


class NegativeAmount(ValueError):
    """An amount or a weight below zero was given where only the verb carries the direction."""

    code = "negative_amount"


class Money(BaseModel):
    """An amount in minor units (cents) of one currency."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minor: StrictInt
    currency: str

    @field_validator("currency")
    @classmethod
    def _known(cls, currency: str) -> str:
        currency_digits(currency)
        return currency

    def __add__(self, other: Self) -> "Money":
        """The sum.

        Raises:
            CurrencyMismatch: `other` is in another currency.
        """
        if other.currency != self.currency:
            raise CurrencyMismatch(f"cannot add {other.currency} to {self.currency}: convert one first")
        return Money(minor=self.minor + other.minor, currency=self.currency)

    def __str__(self) -> str:
        return f"{format_minor(self.minor, self.currency)} {self.currency}"


def currency_digits(code: str) -> int:
    """How many digits of `code` stand behind the decimal point: 0, 2 or 3.

    Raises:
        UnknownCurrency: the code is not in use; lower case is not accepted either.
    """
    digits = _DIGITS.get(code)
    if digits is None:
        raise UnknownCurrency(code)
    return digits


def format_minor(minor: int, currency: str) -> str:
    """The amount as people write it, without the code: 23544 of USD is "235.44", 500 of JPY is "500"."""
    digits = currency_digits(currency)
    sign = "-" if minor < 0 else ""
    if digits == 0:
        return f"{sign}{abs(minor)}"
    whole, rest = divmod(abs(minor), 10**digits)
    return f"{sign}{whole}.{rest:0{digits}d}"


def share(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Divide `total` over `weights` by largest remainder; the parts always sum to `total`.

    Every part gets the floor of its proportion; what is left goes, one unit each, to the largest
    remainders, ties to the lower position. Where every weight is 0 the parts are equal.

    Raises:
        NegativeAmount: the total or a weight is below zero.
        ValueError: there is something to divide and nobody to give it to.
    """
    if total < 0 or any(weight < 0 for weight in weights):
        raise NegativeAmount("only amounts and weights of zero or more can be shared")
    if not weights:
        if total:
            raise ValueError(f"{total} cannot be shared over no parts")
        return ()
    used = weights if any(weights) else [1] * len(weights)
    whole = sum(used)
    parts = [total * weight // whole for weight in used]
    by_remainder = sorted(range(len(used)), key=lambda i: (-(total * used[i] % whole), i))
    for position in by_remainder[: total - sum(parts)]:
        parts[position] += 1
    return tuple(parts)
