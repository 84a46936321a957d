"""The client-side vault as a client has it: docs/vault-client.md done with Debian's cryptography and argon2, through
every door of the API, and the page's own script for browsers run by node against that. The server keeps what it
cannot read; what it could do to an item, the client notices."""

import base64
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "vault-client.md"
SCHEME = "argon2id-aes256gcm-1"
PASSPHRASE = "an unlikely battery staple"
CANARY = "canary-plaintext-of-a-client"
# Keys by passphrase and salt: each costs 64 MB and a while.
KEYS = {}


def b64(octets):
    return base64.b64encode(octets).decode()


def key_of(passphrase, salt, kdf):
    made = (passphrase, salt)
    if made not in KEYS:
        assert (kdf["algorithm"], kdf["version"]) == ("argon2id", 19)
        KEYS[made] = hash_secret_raw(passphrase.encode(), salt, time_cost=kdf["iterations"],
                                     memory_cost=kdf["memory_kib"], parallelism=kdf["parallelism"],
                                     hash_len=kdf["key_bytes"], type=Type.ID)
    return KEYS[made]


KDF = {"algorithm": "argon2id", "version": 19, "memory_kib": 65536, "iterations": 3, "parallelism": 4, "key_bytes": 32}
SALT = os.urandom(16)


def encrypt(name, plaintext, passphrase=PASSPHRASE, salt=SALT):
    """The arguments of a put."""
    iv = os.urandom(12)
    sealed = AESGCM(key_of(passphrase, salt, KDF)).encrypt(iv, plaintext, f"{SCHEME}\n{name}".encode())
    return {"scheme": SCHEME, "salt": b64(salt), "iv": b64(iv), "tag": b64(sealed[-16:]), "ciphertext": b64(sealed[:-16])}


def decrypt(item, name, passphrase=PASSPHRASE):
    """What a client does with the answer of a get; name is the one that it asked for."""
    salt, iv, tag, ciphertext = (base64.b64decode(item[part]) for part in ("salt", "iv", "tag", "ciphertext"))
    return AESGCM(key_of(passphrase, salt, item["kdf"])).decrypt(iv, ciphertext + tag, f"{item['scheme']}\n{name}".encode())


@pytest.fixture
def ann(api):
    return api.person("ann")


def put(person, name, **more):
    return person.rpc("vault_item_put", name=name, **more)


def get(person, name):
    answer = person.rpc("vault_item_get", name=name)
    assert answer.status == 200, answer.text
    return answer.json()


def test_only_the_client_reads_it(ann):
    answer = put(ann, "mail", **encrypt("mail", CANARY.encode()))
    assert answer.status == 201, answer.text
    item = get(ann, "mail")
    assert (item["name"], item["scheme"], item["kdf"]) == ("mail", SCHEME, KDF)
    assert item["version"] == answer.json()["version"]
    assert decrypt(item, "mail") == CANARY.encode()
    with pytest.raises(InvalidTag):
        decrypt(item, "mail", passphrase=PASSPHRASE + " ")


@pytest.mark.parametrize("part", ["salt", "iv", "tag", "ciphertext"])
def test_what_was_changed_does_not_open(ann, part):
    """By anybody: the server takes whatever has the right size."""
    put(ann, "mail", **encrypt("mail", b"hello"))
    item = get(ann, "mail")
    octets = bytearray(base64.b64decode(item[part]))
    octets[0] ^= 1
    changed = {name: item[name] for name in ("scheme", "salt", "iv", "tag", "ciphertext")}
    assert put(ann, "mail", **{**changed, part: b64(bytes(octets))}).status == 200
    with pytest.raises(InvalidTag):
        decrypt(get(ann, "mail"), "mail")


def test_an_item_does_not_open_under_another_name(ann):
    sealed = encrypt("mail", b"hello")
    put(ann, "bank", **sealed)
    with pytest.raises(InvalidTag):
        decrypt(get(ann, "bank"), "bank")


def browser(**given):
    """What the script of the page makes of it, in node; skips where there is none."""
    modules = os.environ.get("A67_NPM_MODULES")
    if not modules or not (Path(modules) / "hash-wasm").is_dir():
        pytest.skip("hash-wasm is not installed (test/tools/npm-modules)")
    done = subprocess.run(["node", PAGE.parent.parent / "test" / "e2e" / "npm" / "vault_client.mjs"],
                          input=json.dumps({"page": str(PAGE), **given}), capture_output=True, text=True,
                          timeout=60, check=True)
    return json.loads(done.stdout)


def test_browsers_and_this_client_understand_each_other(ann):
    text = "zwölf € \U0001f511\n" * 100
    sealed = browser(do="seal", name="mail", passphrase="Grüße an alle", plaintext=text, salt=b64(SALT), if_version=0)["result"]
    assert put(ann, "mail", **sealed).status == 201
    item = get(ann, "mail")
    assert decrypt(item, "mail", passphrase="Grüße an alle") == text.encode()
    # Typed on a keyboard that composes letters otherwise: the same passphrase.
    assert browser(do="open", name="mail", passphrase="Gru\u0308ße an alle", item=item) == {"result": text}
    for wrong in ({"passphrase": "Gruesse an alle"}, {"name": "bank"}, {"item": {**item, "scheme": "rot13"}}):
        assert "error" in browser(**{"do": "open", "name": "mail", "passphrase": "Grüße an alle", "item": item, **wrong})
    assert put(ann, "mail", **encrypt("mail", b"from here"), if_version=item["version"]).status == 200
    assert browser(do="open", name="mail", passphrase=PASSPHRASE, item=get(ann, "mail")) == {"result": "from here"}


def test_sizes(ann):
    for size in (0, 1, 65536):
        plaintext = os.urandom(size)
        assert put(ann, f"of {size}", **encrypt(f"of {size}", plaintext)).status == 201
        assert decrypt(get(ann, f"of {size}"), f"of {size}") == plaintext
    answer = put(ann, "more", **encrypt("more", bytes(65537)))
    assert (answer.status, answer.json()["details"]) == (400, "Field: ciphertext.")
    sizes = {one["name"]: one["size_bytes"] for one in ann.rpc("vault_item_list").json()}
    assert sizes == {"of 0": 0, "of 1": 1, "of 65536": 65536}


def test_two_clients_that_change_the_same(ann, api):
    """Each writes over the version that it has seen; the second has to look again."""
    first = put(ann, "list", **encrypt("list", b"0"), if_version=0).json()["version"]
    assert put(ann, "list", **encrypt("list", b"x"), if_version=0).status == 409
    other = api.login(ann)
    statuses = []

    def write(person):
        statuses.append(put(person, "list", **encrypt("list", b"1"), if_version=first).status)

    writers = [threading.Thread(target=write, args=(person,)) for person in (ann, other)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=20)
    assert sorted(statuses) == [200, 409]
    now = get(other, "list")
    assert now["version"] > first and decrypt(now, "list") == b"1"
    answer = ann.rpc("vault_item_remove", name="list", if_version=first)
    assert (answer.status, answer.json()["code"]) == (409, "PT409")
    assert ann.rpc("vault_item_remove", name="list", if_version=now["version"]).status == 204
    assert ann.rpc("vault_item_get", name="list").status == 404


def test_everybody_has_a_vault_of_his_own(ann, api):
    put(ann, "mail", **encrypt("mail", b"hello"))
    bob = api.person("bob")
    assert bob.rpc("vault_item_list").json() == []
    assert bob.rpc("vault_item_get", name="mail").status == 404
    assert bob.rpc("vault_item_remove", name="mail").status == 404
    assert put(bob, "mail", **encrypt("mail", b"mine"), if_version=0).status == 201
    assert api.admin.rpc("vault_item_get", name="mail").status == 404
    assert api.rpc("vault_item_list").status == 401
    assert decrypt(get(ann, "mail"), "mail") == b"hello"


@pytest.mark.parametrize("change", [
    {"salt": b64(bytes(15))}, {"iv": b64(bytes(16))}, {"tag": "not base64!"}, {"ciphertext": None}, {"scheme": "rot13"},
    {"name": ""}, {"name": "ä" * 101}, {"if_version": 1},
], ids=lambda change: next(iter(change)))
def test_what_is_refused(ann, change):
    answer = ann.rpc("vault_item_put", **{"name": "x", **encrypt("x", b"hello"), **change})
    assert answer.status == (409 if "if_version" in change else 400), answer.text
    assert ann.rpc("vault_item_list").json() == []


def test_paths(ann, api):
    """The same by the REST paths, names with everything in them included."""
    if api.is_postgrest:
        pytest.skip("PostgREST has no REST paths of its own")
    name = "what's in a name? 50 % / ä"
    path = "/api/v1/vault/what%27s%20in%20a%20name%3F%2050%20%25%20%2F%20%C3%A4"
    answer = ann.client.put(path, encrypt(name, b"hello"))
    assert answer.status == 201, answer.text
    version = answer.json()["version"]
    assert ann.client.put(path, {**encrypt(name, b"again"), "if_version": version}).status == 200
    item = ann.client.get(path).json()
    assert item["name"] == name and decrypt(item, name) == b"again"
    (listed,) = ann.client.get("/api/v1/vault?limit=5").json()
    assert (listed["name"], listed["version"]) == (name, item["version"]) and "ciphertext" not in listed
    assert ann.client.request("DELETE", f"{path}?if_version={version}").status == 409
    assert ann.client.request("DELETE", path).status == 204
    assert ann.client.get(path).status == 404
    assert ann.client.get("/api/v1/vault").json() == []
    assert api.anonymous.get(path).status == 401


def test_the_server_holds_no_plaintext(ann, api_cluster):
    """Neither in its rows nor in its files; nor the passphrase, nor a key."""
    put(ann, "mail", **encrypt("mail", CANARY.encode()))
    assert api_cluster.rows("SELECT 1 FROM a67_internal.vault_item v WHERE position(%s::bytea IN v.ciphertext) > 0",
                            CANARY.encode()) == []
    api_cluster.execute("CHECKPOINT")
    secrets = (CANARY.encode(), PASSPHRASE.encode(), *KEYS.values())
    for path in (api_cluster.log, *Path(api_cluster.data).rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            assert not [one for one in secrets if one in content], path
