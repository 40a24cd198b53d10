"""The root of all refusals: what the rules of an order say no to, and what is possible instead.

A refusal changes nothing. Its `code` is stable and is what the API, the validators and the stored
outcome of a command carry.
"""


class OrderRuleError(Exception):
    """A rule says no.

    Attributes:
        code: stable machine-readable reason.
        alternative: another action that is possible instead, or None.
    """

    code = "not_allowed"
    alternative: str | None = None

    def __init__(self, detail: str, alternative: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if alternative is not None:
            self.alternative = alternative
