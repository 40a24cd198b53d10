"""What operators can filter by in the Temporal UI: the search attributes of an order.

None is called `Status`, none holds personal data. Eight of ten Keywords, two of three lists, one Bool, one
Datetime: the limits of a namespace on PostgreSQL leave room for adopters.
"""

from temporalio.common import SearchAttributeKey

ORDER_NUMBER = SearchAttributeKey.for_keyword("OrderNumber")
ORDER_STATUS = SearchAttributeKey.for_keyword("OrderStatus")
WAITING_ON = SearchAttributeKey.for_keyword("WaitingOn")
PROMISE_STATE = SearchAttributeKey.for_keyword("PromiseState")
PAYMENT_STATUS = SearchAttributeKey.for_keyword("PaymentStatus")
ATTENTION_CODE = SearchAttributeKey.for_keyword("AttentionCode")
SALES_CHANNEL = SearchAttributeKey.for_keyword("SalesChannel")
CUSTOMER_REF = SearchAttributeKey.for_keyword("CustomerRef")
ORDER_HOLDS = SearchAttributeKey.for_keyword_list("OrderHolds")
SHIP_NODES = SearchAttributeKey.for_keyword_list("ShipNodes")
NEEDS_ATTENTION = SearchAttributeKey.for_bool("NeedsAttention")
PROMISED_BY = SearchAttributeKey.for_datetime("PromisedBy")

SEARCH_ATTRIBUTES = (
    ORDER_NUMBER,
    ORDER_STATUS,
    WAITING_ON,
    PROMISE_STATE,
    PAYMENT_STATUS,
    ATTENTION_CODE,
    SALES_CHANNEL,
    CUSTOMER_REF,
    ORDER_HOLDS,
    SHIP_NODES,
    NEEDS_ATTENTION,
    PROMISED_BY,
)
