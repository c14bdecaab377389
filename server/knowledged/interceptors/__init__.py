"""The hall that every RPC crosses: plain functions, composed once per method at start-up."""

from knowledged.interceptors.hall import Handler, Interceptor, compose

__all__ = ["Handler", "Interceptor", "compose"]
