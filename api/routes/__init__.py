"""Endpoints, one file per noun; the application includes every router listed here."""

from fastapi import APIRouter

from api.routes import accounts

ROUTERS: tuple[APIRouter, ...] = (accounts.router,)
