"""The keys of providers, in ConfigService. They go in and never come out."""

from datetime import UTC, datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from knowledge.v1 import config_service_pb2 as pb
from knowledged.call import Call
from knowledged.checks import Checks
from knowledged.credentials.api_key import ApiKey, MalformedKey
from knowledged.credentials.keys import Held, Source
from knowledged.embedding import key_check
from knowledged.embedding.catalogue import HUGGING_FACE
from knowledged.embedding.key_check import Checked
from knowledged.embedding.provider_faults import MISSING, ProviderAway, cause_of
from knowledged.errors import Conflict, Denied, NotFound
from knowledged.names import provider_of
from knowledged.services import pack
from knowledged.services.providers import Providers
from knowledged.services.recording import Change, mutation, request_key
from knowledged.services.supplies import Supplies
from knowledged.store import credentials
from knowledged.store.credentials import Credential, Provider
from knowledged.store.requests import RequestKey

SHAPE = '"providers/huggingface"'
PROVIDER = Provider(HUGGING_FACE, uuid5(NAMESPACE_URL, f"providers/{HUGGING_FACE}"))


class Credentials:
    """RPCs over providers' keys, which are the whole server's: no confined caller changes them."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies
        self._providers = supplies.providers

    async def SetProviderCredential(
        self, request: pb.SetProviderCredentialRequest, call: Call
    ) -> pb.SetProviderCredentialResponse:
        checks, provider = Checks(), _provider(request.name)
        key = request_key(call, request, checks.request_id(request.request_id))
        api_key = _api_key(checks, request.api_key)
        _refuse_confined(call)
        if not await self._supplies.answered(call, key):
            held = await self._tried(call, api_key, skip=request.skip_validation)
            await self._store(call, key, provider, held, request.etag)
        return pb.SetProviderCredentialResponse(
            credential=await self._credential(call), receipt=pack.receipt(call.receipt)
        )

    async def GetProviderCredential(
        self, request: pb.GetProviderCredentialRequest, call: Call
    ) -> pb.GetProviderCredentialResponse:
        _provider(request.name)
        return pb.GetProviderCredentialResponse(credential=await self._credential(call))

    async def ValidateProviderCredential(
        self, request: pb.ValidateProviderCredentialRequest, call: Call
    ) -> pb.ValidateProviderCredentialResponse:
        checks, provider = Checks(), _provider(request.name)
        key = request_key(call, request, checks.request_id(request.request_id))
        checks.done()
        _refuse_confined(call)
        await self._credential(call)
        checked = Checked()
        if not await self._supplies.answered(call, key):
            checked = await self._check(call)
            made = mutation(call, key, _change("credentials.validate", provider))
            async with self._supplies.database.write(call.left) as conn:
                if await credentials.note_check(conn, made, provider):
                    call.receipt = made.receipt
            await self._demand_receipt(call, key)
        return pb.ValidateProviderCredentialResponse(
            credential=await self._credential(call),
            message=checked.error.message if checked.error else "",
            expire_time=pack.timestamp(checked.expire_time) if checked.expire_time else None,
            receipt=pack.receipt(call.receipt),
        )

    async def DeleteProviderCredential(
        self, request: pb.DeleteProviderCredentialRequest, call: Call
    ) -> pb.DeleteProviderCredentialResponse:
        checks, provider = Checks(), _provider(request.name)
        key = request_key(call, request, checks.request_id(request.request_id))
        checks.done()
        _refuse_confined(call)
        if not await self._supplies.answered(call, key):
            row = await self._row(call)
            if row is None:
                raise NotFound("credential: none is stored")
            expected = _expected(request.etag, row)
            made = mutation(call, key, _change("credentials.delete", provider))
            async with self._supplies.database.write(call.left) as conn:
                if await credentials.delete(conn, made, provider, expected):
                    call.receipt = made.receipt
            await self._row(call)
            await self._demand_receipt(call, key)
        return pb.DeleteProviderCredentialResponse(receipt=pack.receipt(call.receipt))

    async def _tried(self, call: Call, key: ApiKey, *, skip: bool) -> Held:
        """The key, not yet in use. Raises what the provider has against it, unless not asked.

        A model that is wrong is no reason against a key; a provider that is away is: nobody knows.
        """
        held = Held(key, Source.STORED, datetime.now(UTC))
        if not skip:
            seconds = call.seconds_left(key_check.SECONDS)
            checked = await self._supplies.key_check.check(held, seconds)
            if checked.error and (checked.of_the_key or isinstance(checked.error, ProviderAway)):
                raise checked.error
        return held

    async def _store(
        self, call: Call, key: RequestKey, provider: Provider, held: Held, etag: str
    ) -> None:
        expected = _expected(etag, await self._row(call))
        sealed = self._providers.stored.vault.seal(provider.name, held.key)
        made = mutation(call, key, _change("credentials.set", provider))
        async with self._supplies.database.write(call.left) as conn:
            row = await credentials.set_sealed(conn, made, provider, sealed, expected)
        if row is None:
            await self._demand_receipt(call, key)
            return
        call.receipt = made.receipt
        self._providers.stored.took(held.key, row)

    async def _check(self, call: Call) -> Checked:
        keys = self._providers.keys
        held = keys.current
        if held is None:
            return Checked(MISSING.error())
        checked = await self._supplies.key_check.check(held, call.seconds_left(key_check.SECONDS))
        if checked.of_the_key:
            return Checked(cause_of(keys.refused(held, checked.of_the_key)).error())
        keys.checked(held, checked.error.reason if checked.error else "")
        return checked

    async def _row(self, call: Call) -> Credential | None:
        """What is stored; this replica's keys are up with it then."""
        async with self._supplies.database.read(call.left) as conn:
            return await self._providers.stored.refresh(conn)

    async def _credential(self, call: Call) -> pb.ProviderCredential:
        row = await self._row(call)
        return _packed(self._providers, row)

    async def _demand_receipt(self, call: Call, key: RequestKey) -> None:
        """A copy of the request was first, or somebody else changed the key meanwhile."""
        if call.receipt is None and not await self._supplies.answered(call, key):
            raise Conflict("etag: the key was changed meanwhile; read it again")


def _provider(name: str) -> Provider:
    Checks().name("name", name, provider_of, SHAPE)
    return PROVIDER


def _api_key(checks: Checks, text: str) -> ApiKey:
    """Ends the checks: without a key there is nothing to do."""
    try:
        key = ApiKey(text)
    except MalformedKey as error:
        checks.fault("api_key", str(error))
        checks.done()
        raise
    checks.done()
    return key


def _refuse_confined(call: Call) -> None:
    if call.principal.collections is not None:
        raise Denied("a key serves all collections, and the caller's grant covers only some")


def _change(action: str, provider: Provider) -> Change:
    return Change(action, None, (f"providers/{provider.name}",))


def _expected(etag: str, row: Credential | None) -> UUID | None:
    """The event whose key may be replaced; None for any."""
    if not etag:
        return None
    if row is None or etag != pack.etag(row.event_id, row.revision):
        raise Conflict("etag: is stale; read the key again")
    return row.event_id


def _packed(providers: Providers, row: Credential | None) -> pb.ProviderCredential:
    keys = providers.keys
    held, outcome = keys.current, keys.outcome
    message = pb.ProviderCredential(
        name=f"providers/{keys.provider}", rejected_reason=keys.rejected_reason
    )
    if row is not None:
        message.etag = pack.etag(row.event_id, row.revision)
    if held is not None:
        message.source = held.source  # pyright: ignore[reportAttributeAccessIssue]
        message.masked, message.fingerprint = held.key.masked, held.key.fingerprint
        message.set_time.CopyFrom(pack.timestamp(held.since))
    if outcome is not None:
        message.check_reason = outcome.reason
        message.check_time.CopyFrom(pack.timestamp(outcome.at))
    return message
