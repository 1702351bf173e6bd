"""Who may do what, and what else must hold: the access chain of one API server, built from its settings.

The watch cache must be loaded first, since the parts subscribe to it. `tables` needs the server's own client, which
exists once the server does; `bootstrap` then writes what every cluster starts with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random

from msgspec import Struct, field

from orchestrator.api import meta
from orchestrator.api.clock import Clock
from orchestrator.api.resources import PRIORITYCLASSES, SERVICES, ResourceTable
from orchestrator.api.status import AlreadyExists
from orchestrator.apiserver.admission.certificates import CertificateApproval, CertificateSubjectRestriction
from orchestrator.apiserver.admission.chain import Chain
from orchestrator.apiserver.admission.claimresize import PersistentVolumeClaimResize
from orchestrator.apiserver.admission.declaredfeatures import NodeDeclaredFeatures
from orchestrator.apiserver.admission.defaultclass import DefaultIngressClass, DefaultStorageClass
from orchestrator.apiserver.admission.defaulttolerationseconds import DefaultTolerationSeconds
from orchestrator.apiserver.admission.limitranger import LimitRanger
from orchestrator.apiserver.admission.namespacelifecycle import NamespaceLifecycle
from orchestrator.apiserver.admission.noderestriction import NodeRestriction
from orchestrator.apiserver.admission.podsecurity import PodSecurity
from orchestrator.apiserver.admission.podtopologylabels import PodTopologyLabels
from orchestrator.apiserver.admission.priority import SYSTEM_CLASSES, Priority
from orchestrator.apiserver.admission.resourcequota import ResourceQuota
from orchestrator.apiserver.admission.runtimeclass import RuntimeClass
from orchestrator.apiserver.admission.serviceaccount import ServiceAccountAdmission
from orchestrator.apiserver.admission.storageinuse import StorageObjectInUseProtection
from orchestrator.apiserver.admission.taintnodesbycondition import TaintNodesByCondition
from orchestrator.apiserver.admission.timing import Timing
from orchestrator.apiserver.authn.bootstraptoken import BootstrapTokens
from orchestrator.apiserver.authn.chain import Authenticator
from orchestrator.apiserver.authn.clientcert import ClientCertificates
from orchestrator.apiserver.authn.jwt import KeySet, Signer, public_keys
from orchestrator.apiserver.authn.oidc import OidcConfig, OidcTokens
from orchestrator.apiserver.authn.requestheader import FrontProxies
from orchestrator.apiserver.authn.reviews import IdentityReviews
from orchestrator.apiserver.authn.serviceaccount import ServiceAccountTokens, TokenIssuer, TokenSettings
from orchestrator.apiserver.authn.tokenfile import TokenFile
from orchestrator.apiserver.authz.chain import AuthorizerChain
from orchestrator.apiserver.authz.escalation import EscalationCheck
from orchestrator.apiserver.authz.node import NodeAuthorizer
from orchestrator.apiserver.authz.rbac import Rbac
from orchestrator.apiserver.authz.reconcile import reconcile
from orchestrator.apiserver.authz.reviews import AccessReviews
from orchestrator.apiserver.handlers import Tables
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.policies.mutating import MutatingPolicies
from orchestrator.apiserver.policies.policy import MatchConditions
from orchestrator.apiserver.policies.validating import ValidatingPolicies
from orchestrator.apiserver.strategies.binding import PodBinding
from orchestrator.apiserver.strategies.certificatesigningrequest import RequesterRecord
from orchestrator.apiserver.strategies.deviceadmin import DeviceAdminAccess
from orchestrator.apiserver.strategies.devicetaints import DeviceTaintTimes
from orchestrator.apiserver.strategies.eviction import PodEviction
from orchestrator.apiserver.strategies.node_ports import NodePorts
from orchestrator.apiserver.strategies.rewrite import Rewriter
from orchestrator.apiserver.strategies.service import NODE_PORTS, ServiceAllocation, ports_in_use
from orchestrator.apiserver.strategies.service_addresses import ServiceAddresses
from orchestrator.apiserver.strategies.token import TokenRequests
from orchestrator.apiserver.webhooks.admission import MutatingWebhooks, ValidatingWebhooks
from orchestrator.apiserver.webhooks.caller import Caller
from orchestrator.apiserver.webhooks.conversion import Conversions
from orchestrator.client.client import Client
from orchestrator.store.interface import Store


class AccessConfig(Struct, frozen=True, kw_only=True):
    """Files are PEM. `service_account_key_files` are further keys whose tokens are believed, while keys are rotated."""

    service_account_signing_key_file: str
    service_account_key_files: tuple[str, ...] = ()
    service_account_issuer: str = "https://kubernetes.default.svc.cluster.local"
    api_audiences: tuple[str, ...] = ()
    token_auth_file: str = ""
    oidc: OidcConfig | None = None
    service_cluster_ip_ranges: tuple[str, ...] = ("10.96.0.0/16", "fd00:10:96::/112")
    service_node_ports: tuple[int, int] = NODE_PORTS


class Surroundings(Struct, frozen=True, kw_only=True):
    """What the parts read, and the sources of time, chance and ids."""

    lookup: Lookup
    clock: Clock
    random: Random
    new_uid: Callable[[], str]
    resources: ResourceTable = field(default_factory=ResourceTable)


class Access:
    """`certificates` are those of clients; `proxies` may say on whose behalf they ask."""

    def __init__(
        self,
        config: AccessConfig,
        around: Surroundings,
        certificates: ClientCertificates,
        proxies: FrontProxies | None = None,
    ) -> None:
        self._config = config
        self._around = around
        lookup, clock = around.lookup, around.clock
        signer = Signer.from_pem(Path(config.service_account_signing_key_file).read_bytes())
        keys = [signer.public_key]
        for path in config.service_account_key_files:
            keys += public_keys(Path(path).read_bytes())
        self.keys = KeySet(keys)
        audiences = config.api_audiences or (config.service_account_issuer,)
        settings = TokenSettings(issuer=config.service_account_issuer, audiences=audiences)
        self._issuer = TokenIssuer(signer, settings)
        self.oidc = OidcTokens(config.oidc, clock) if config.oidc is not None else None
        self.authenticator = Authenticator(
            certificates=certificates,
            proxies=proxies,
            clock=clock,
            service_accounts=ServiceAccountTokens(self.keys, settings, lookup, clock),
            bootstrap_tokens=BootstrapTokens(lookup, clock),
            oidc=self.oidc,
            token_file=TokenFile.read(config.token_auth_file) if config.token_auth_file else None,
        )
        self.rbac = Rbac(lookup)
        self.authorizer = AuthorizerChain([NodeAuthorizer(lookup), self.rbac])
        self.webhooks = Caller(lookup)
        self.conversions = Conversions(self.webhooks)
        self._quota = ResourceQuota(lookup, self._around.resources, self._around.clock)
        self.admission = self._admission()

    def _admission(self) -> Chain:
        lookup = self._around.lookup
        priority, limits, resources = Priority(lookup), LimitRanger(lookup), self._around.resources
        conditions = MatchConditions(self.authorizer, lookup)
        timing, new_uid = Timing(), self._around.new_uid
        return Chain(
            timing=timing,
            mutating=[
                NamespaceLifecycle(lookup),
                limits,
                ServiceAccountAdmission(lookup, self._around.random),
                NodeRestriction(lookup),
                TaintNodesByCondition(),
                priority,
                DefaultTolerationSeconds(),
                DefaultStorageClass(lookup),
                StorageObjectInUseProtection(),
                RuntimeClass(lookup),
                DefaultIngressClass(lookup),
                PodTopologyLabels(lookup),
                MutatingPolicies(lookup, resources, self.authorizer, self.conversions),
                MutatingWebhooks(lookup, resources, self.webhooks, self.conversions, conditions, new_uid, timing),
            ],
            validating=[
                limits,
                PodSecurity(lookup),
                priority,
                PersistentVolumeClaimResize(lookup),
                CertificateApproval(self.authorizer),
                CertificateSubjectRestriction(),
                NodeDeclaredFeatures(lookup),
                ValidatingPolicies(lookup, resources, self.authorizer, self.conversions, timing),
                ValidatingWebhooks(lookup, resources, self.webhooks, self.conversions, conditions, new_uid, timing),
                self._quota,
            ],
        )

    def tables(self, rewriter: Rewriter, client: Client, services: ServiceAllocation) -> Tables:
        """Handlers and strategies; `client` acts as the server itself."""
        around = self._around
        self._quota.report_through(client)
        return Tables(
            handlers={
                **IdentityReviews(self.authenticator).handlers(),
                **AccessReviews(self.authorizer, self.rbac).handlers(),
                **PodBinding(rewriter, around.clock).handlers(),
                **PodEviction(rewriter, client, around.lookup, around.clock).handlers(),
                **TokenRequests(self._issuer, around.lookup, around.clock, around.new_uid).handlers(),
            },
            strategies={
                **services.strategies(),
                **EscalationCheck(self.rbac, self.authorizer).strategies(),
                **RequesterRecord().strategies(),
                **DeviceAdminAccess(around.lookup).strategies(),
                **DeviceTaintTimes(around.clock).strategies(),
            },
        )

    def addresses(self, client: Client) -> ServiceAddresses:
        """The cluster addresses of Services; `client` acts as the server itself."""
        around = self._around
        return ServiceAddresses(client, around.lookup, self._config.service_cluster_ip_ranges, around.random)

    def node_ports(self, store: Store) -> NodePorts:
        around = self._around
        first, last = self._config.service_node_ports
        return NodePorts(store, first, last, around.random, lambda: ports_in_use(around.lookup.list(SERVICES)))

    def openid_configuration(self) -> dict[str, object]:
        """What /.well-known/openid-configuration says, so that others can verify our tokens."""
        issuer = self._issuer.settings.issuer
        return {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({key["alg"] for key in self.keys.jwks()["keys"]}),
        }

    async def bootstrap(self, client: Client) -> None:
        """Roles, bindings and priority classes of every cluster; the namespaces kube-system and kube-public exist."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reconcile(client, self._around.lookup))
            for one in SYSTEM_CLASSES:
                if self._around.lookup.get(PRIORITYCLASSES, "", meta.name(one)) is None:
                    tasks.create_task(_create_class(client, one))


async def _create_class(client: Client, one: meta.Object) -> None:
    try:
        await client.create(PRIORITYCLASSES, one)
    except AlreadyExists:
        return  # another server was quicker
