"""Endpoints, one file per noun; the application includes every router listed here."""

from fastapi import APIRouter

from api.routes import (
    accounts,
    admin_campaigns,
    api_keys,
    campaign_control,
    campaign_reports,
    campaigns,
    devices,
    executions,
    lead_files,
    lead_imports,
    leads,
    linking,
    media,
    messages,
    previews,
    sessions,
    system,
    users,
    workers,
)

ROUTERS: tuple[APIRouter, ...] = (
    accounts.router,
    sessions.router,
    api_keys.router,
    users.router,
    leads.router,
    lead_files.router,
    lead_imports.router,
    previews.router,
    campaigns.router,
    campaign_control.router,
    campaign_reports.router,
    admin_campaigns.router,
    media.router,
    messages.router,
    devices.router,
    linking.router,
    workers.router,
    executions.router,
    system.router,
)
