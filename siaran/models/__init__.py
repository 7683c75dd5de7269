"""All tables, one file per noun."""

from siaran.models.accounts import ApiKey, AuditEntry, PasswordReset, Role, User, UserSession
from siaran.models.activity import Activity
from siaran.models.base import Base
from siaran.models.campaigns import Campaign, CampaignCount, CampaignRetry, CampaignStatus, DeviceStrategy
from siaran.models.chats import AutoReply, Chat, ChatMedia, ChatMediaState, ChatMessage, IncomingMessage
from siaran.models.devices import Device, DeviceStatus, Host, Lane, LaneState, TransportKind
from siaran.models.imports import ImportChunk, ImportRejection, ImportRow, ImportStatus, LeadImport
from siaran.models.leads import Lead, Suppression, TargetStatus
from siaran.models.linking import Pairing, PairingMethod, PairingStatus, Unlinking
from siaran.models.media import Media
from siaran.models.messages import (
    BROADCASTS,
    ONE_OFF,
    AttemptOutcome,
    Broadcast,
    BroadcastMessage,
    MessageAnalytics,
    MessageAttempt,
    MessageStatus,
    OneOffKey,
    UnmatchedReceipt,
    broadcast_source,
    campaign_source,
    sequence_source,
)
from siaran.models.sequences import (
    Enrollment,
    EnrollmentStatus,
    Sequence,
    SequenceLog,
    SequenceRetry,
    SequenceStatus,
    SequenceStep,
)
from siaran.models.webhooks import DeliveryStatus, Webhook, WebhookDelivery

__all__ = [
    "BROADCASTS",
    "ONE_OFF",
    "Activity",
    "ApiKey",
    "AttemptOutcome",
    "AuditEntry",
    "AutoReply",
    "Base",
    "Broadcast",
    "BroadcastMessage",
    "Campaign",
    "CampaignCount",
    "CampaignRetry",
    "CampaignStatus",
    "Chat",
    "ChatMedia",
    "ChatMediaState",
    "ChatMessage",
    "DeliveryStatus",
    "Device",
    "DeviceStatus",
    "DeviceStrategy",
    "Enrollment",
    "EnrollmentStatus",
    "Host",
    "ImportChunk",
    "ImportRejection",
    "ImportRow",
    "ImportStatus",
    "IncomingMessage",
    "Lane",
    "LaneState",
    "Lead",
    "LeadImport",
    "Media",
    "MessageAnalytics",
    "MessageAttempt",
    "MessageStatus",
    "OneOffKey",
    "Pairing",
    "PairingMethod",
    "PairingStatus",
    "PasswordReset",
    "Role",
    "Sequence",
    "SequenceLog",
    "SequenceRetry",
    "SequenceStatus",
    "SequenceStep",
    "Suppression",
    "TargetStatus",
    "TransportKind",
    "Unlinking",
    "UnmatchedReceipt",
    "User",
    "UserSession",
    "Webhook",
    "WebhookDelivery",
    "broadcast_source",
    "campaign_source",
    "sequence_source",
]
