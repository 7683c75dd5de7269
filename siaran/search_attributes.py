"""What lists of executions in the Temporal UI show: whose, which campaign, device or sequence, and what it waits for."""

from temporalio.common import SearchAttributeKey

USER = SearchAttributeKey.for_keyword("SiaranUser")
CAMPAIGN = SearchAttributeKey.for_int("SiaranCampaign")
DEVICE = SearchAttributeKey.for_keyword("SiaranDevice")
SEQUENCE = SearchAttributeKey.for_keyword("SiaranSequence")
STATUS = SearchAttributeKey.for_keyword("SiaranStatus")
