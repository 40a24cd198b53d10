"""Other companies' systems: payment, carrier, warehouse and notification providers, one room each."""
