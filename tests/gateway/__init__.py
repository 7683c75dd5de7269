"""Tests of the gateway to WhatsApp."""
