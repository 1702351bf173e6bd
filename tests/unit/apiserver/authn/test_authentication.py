"""Who a request is from, for each kind of credential."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from orchestrator.api.clock import FixedClock
from orchestrator.api.meta import Object, format_time
from orchestrator.api.resources import PODS, SECRETS, SERVICEACCOUNTS
from orchestrator.api.status import Unauthorized
from orchestrator.api.wire import Identity, Request
from orchestrator.apiserver.authn.bootstraptoken import BootstrapTokens
from orchestrator.apiserver.authn.chain import ANONYMOUS, KEPT_S, Authenticator
from orchestrator.apiserver.authn.clientcert import ClientCertificates
from orchestrator.apiserver.authn.jwt import KeySet, NoJwt, Signer, TokenError, public_keys
from orchestrator.apiserver.authn.serviceaccount import Binding, ServiceAccountTokens, TokenSettings, claims_for
from orchestrator.apiserver.authn.tokenfile import TokenFile, parse
from orchestrator.apiserver.lookup import MemoryLookup

AUDIENCE = TokenSettings().audiences[0]


def obj(name: str, uid: str = "u1", namespace: str = "default", **more: object) -> Object:
    return {"metadata": {"name": name, "namespace": namespace, "uid": uid}, **more}


class World:
    def __init__(self, signer: Signer | None = None) -> None:
        self.clock = FixedClock()
        self.lookup = MemoryLookup()
        self.signer = signer or Signer(ec.generate_private_key(ec.SECP256R1()))
        self.account = self.lookup.put(SERVICEACCOUNTS, obj("build", "sa-1"))
        self.pod = self.lookup.put(PODS, obj("web", "pod-1"))
        self.authenticator = Authenticator(
            certificates=ClientCertificates(self.clock),
            clock=self.clock,
            service_accounts=ServiceAccountTokens(
                KeySet([self.signer.public_key]), TokenSettings(), self.lookup, self.clock
            ),
            bootstrap_tokens=BootstrapTokens(self.lookup, self.clock),
            token_file=TokenFile(parse('secret,ann,7,"dev, ops"\n', "tokens")),
        )

    def token(self, audience: str = AUDIENCE, **bound: Object) -> str:
        settings = self.authenticator.service_accounts.settings
        claims = claims_for(
            self.account, Binding(**bound), [audience], settings.issuer, self.clock.now(), 600, "token-id"
        )
        return self.signer.sign(claims)

    def ask(self, token: str, path: str = "/api/v1/pods") -> Identity:
        self.clock.advance(KEPT_S)
        return self.authenticator.authenticate(Request("GET", path, headers={"authorization": f"Bearer {token}"}))


def certificate(common_name: str, *organizations: str, days: int = 365_000) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, value) for value in organizations]
    if common_name:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    subject = x509.Name(attributes)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(start + timedelta(days=days))
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def test_a_certificate_names_user_and_groups() -> None:
    request = Request("GET", "/api", peer_certificate=certificate("ann", "dev", "ops"))
    identity = World().authenticator.authenticate(request)
    assert (identity.name, identity.groups) == ("ann", ("dev", "ops", "system:authenticated"))


@pytest.mark.parametrize(
    "der",
    [
        pytest.param(certificate("", "dev"), id="no-common-name"),
        pytest.param(certificate("ann", days=1), id="expired"),
    ],
)
def test_a_useless_certificate_is_no_credential(der: bytes) -> None:
    with pytest.raises(Unauthorized):
        World().authenticator.authenticate(Request("GET", "/api", peer_certificate=der))


def test_anonymous_sees_health_and_version_only() -> None:
    authenticator = World().authenticator
    for path in ("/healthz", "/livez/ping", "/readyz", "/version"):
        assert authenticator.authenticate(Request("GET", path)) == ANONYMOUS
    for path in ("/api", "/metrics", "/healthzz", "/"):
        with pytest.raises(Unauthorized):
            authenticator.authenticate(Request("GET", path))


def test_an_in_process_identity_is_taken_as_it_is() -> None:
    request = Request("GET", "/api", identity=Identity("system:kube-scheduler"))
    assert World().authenticator.authenticate(request).groups == ("system:authenticated",)


def test_static_token() -> None:
    identity = World().ask("secret")
    assert (identity.name, identity.uid, identity.groups[:2]) == ("ann", "7", ("dev", "ops"))


@pytest.mark.parametrize(
    "signer",
    [
        pytest.param(Signer(ec.generate_private_key(ec.SECP256R1())), id="ES256"),
        pytest.param(Signer(rsa.generate_private_key(65537, 2048)), id="RS256"),
    ],
)
def test_a_service_account_token(signer: Signer) -> None:
    world = World(signer)
    identity = world.ask(world.token(pod=world.pod))
    assert identity.name == "system:serviceaccount:default:build"
    assert identity.uid == "sa-1"
    assert identity.groups == (
        "system:serviceaccounts",
        "system:serviceaccounts:default",
        "system:authenticated",
    )
    assert identity.extra["authentication.kubernetes.io/pod-name"] == ("web",)
    assert identity.extra["authentication.kubernetes.io/credential-id"] == ("JTI=token-id",)


def test_a_token_dies_with_what_it_is_bound_to() -> None:
    world = World()
    token = world.token(pod=world.pod)
    world.ask(token)
    world.lookup.put(PODS, obj("web", "another"))
    with pytest.raises(Unauthorized):
        world.ask(token)
    world.lookup.put(PODS, world.pod)
    world.ask(token)
    world.lookup.remove(SERVICEACCOUNTS, "default", "build")
    with pytest.raises(Unauthorized):
        world.ask(token)


def test_a_token_expires_though_its_signature_is_remembered() -> None:
    world = World()
    token = world.token()
    world.ask(token)
    world.clock.advance(601)
    with pytest.raises(Unauthorized):
        world.ask(token)


def test_a_token_of_another_audience_is_refused_but_can_be_reviewed() -> None:
    world = World()
    token = world.token("vault")
    with pytest.raises(Unauthorized):
        world.ask(token)
    assert world.authenticator.token(token, ["vault", "other"]).audiences == ("vault",)


def test_a_forged_token_is_refused_even_on_an_open_path() -> None:
    world = World()
    head, claims, _ = world.token().split(".")
    other = Signer(ec.generate_private_key(ec.SECP256R1())).sign({"iss": TokenSettings().issuer}).split(".")[2]
    for token in (f"{head}.{claims}.{other}", f"{head}.{claims}.", "a.b.c", "nonsense"):
        with pytest.raises(Unauthorized):
            world.ask(token, "/healthz")


FOREIGN = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln"  # of the issuer x


@pytest.mark.parametrize("token", ["../x", "a.b.c", "e30.e30.x", "a.b", FOREIGN])
def test_nothing_is_said_of_a_token_that_is_none_of_ours(token: str) -> None:
    with pytest.raises(NoJwt):
        World().authenticator.token(token)


def test_a_bad_signature_is_told_in_the_words_that_people_know() -> None:
    world = World()
    head, claims, _ = world.token().split(".")
    with pytest.raises(TokenError, match="error in cryptographic primitive"):
        world.authenticator.token(f"{head}.{claims}.c2ln")


def test_a_token_in_a_secret_lives_as_long_as_the_secret_holds_it() -> None:
    world = World()
    prefix = "kubernetes.io/serviceaccount/"
    claims = {
        "iss": "kubernetes/serviceaccount",
        f"{prefix}namespace": "default",
        f"{prefix}secret.name": "build-token",
        f"{prefix}service-account.name": "build",
        f"{prefix}service-account.uid": "sa-1",
    }
    token = world.signer.sign(claims)
    secret = obj("build-token", data={"token": base64.b64encode(token.encode()).decode()})
    world.lookup.put(SECRETS, secret)
    assert world.ask(token).name == "system:serviceaccount:default:build"
    world.lookup.put(SECRETS, obj("build-token"))
    with pytest.raises(Unauthorized):
        world.ask(token)


def bootstrap_secret(**changes: str) -> Object:
    data = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
    } | changes
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return obj("bootstrap-token-abcdef", namespace="kube-system", type="bootstrap.kubernetes.io/token", data=encoded)


def test_bootstrap_token() -> None:
    world = World()
    world.lookup.put(SECRETS, bootstrap_secret(expiration=format_time(world.clock.now() + 60)))
    identity = world.ask("abcdef.0123456789abcdef")
    assert identity.name == "system:bootstrap:abcdef"
    assert "system:bootstrappers:kubeadm:default-node-token" in identity.groups
    world.clock.advance(61)
    with pytest.raises(Unauthorized):
        world.ask("abcdef.0123456789abcdef")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"token-secret": "another-secret"}, id="wrong-secret"),
        pytest.param({"usage-bootstrap-authentication": "false"}, id="not-for-authentication"),
        pytest.param({"auth-extra-groups": "system:masters"}, id="a-group-it-must-not-give"),
        pytest.param({"expiration": "soon"}, id="unreadable-expiration"),
    ],
)
def test_a_bootstrap_secret_that_does_not_serve(changes: dict[str, str]) -> None:
    world = World()
    world.lookup.put(SECRETS, bootstrap_secret(**changes))
    with pytest.raises(Unauthorized):
        world.ask("abcdef.0123456789abcdef")


def test_a_key_of_another_curve_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(ValueError, match="P-256"):
        Signer.from_pem(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ValueError, match="P-256"):
        public_keys(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def test_the_key_set_publishes_what_verifies() -> None:
    signer = Signer(ec.generate_private_key(ec.SECP256R1()))
    keys = KeySet([signer.public_key])
    assert keys.verify(signer.sign({"a": 1})) == {"a": 1}
    published = keys.jwks()["keys"][0]
    assert (published["kid"], published["kty"], published["alg"]) == (signer.key_id, "EC", "ES256")
    with pytest.raises(TokenError):
        KeySet([]).verify(signer.sign({"a": 1}))


async def test_what_was_found_for_a_credential_is_believed_for_a_moment() -> None:
    world = World()
    token = world.token()
    assert world.ask(token).name == "system:serviceaccount:default:build"
    world.lookup.remove(SERVICEACCOUNTS, "default", "build")
    request = Request("GET", "/api/v1/pods", headers={"authorization": f"Bearer {token}"})
    assert world.authenticator.authenticate(request).name == "system:serviceaccount:default:build"
    world.clock.advance(KEPT_S)
    with pytest.raises(Unauthorized):
        world.authenticator.authenticate(request)
