"""Endpoints, one file per noun; the application includes every router listed here."""

from fastapi import APIRouter

from api.routes import accounts, api_keys, sessions, system, users

ROUTERS: tuple[APIRouter, ...] = (
    accounts.router,
    sessions.router,
    api_keys.router,
    users.router,
    system.router,
)
