"""Checks a document against what OpenAPI 3.1 demands of it, as far as this API uses the standard.

problems() returns sentences, none for a good document. Fields that the standard does not know are
problems too: a misspelt one would be ignored by every reader. Standard library only.
"""

import re

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
FIELDS = {
    "document": {"openapi", "info", "servers", "paths", "components", "security", "tags", "externalDocs",
                 "jsonSchemaDialect", "webhooks"},
    "info": {"title", "summary", "description", "termsOfService", "contact", "license", "version"},
    "path": METHODS | {"$ref", "summary", "description", "servers", "parameters"},
    "operation": {"tags", "summary", "description", "externalDocs", "operationId", "parameters",
                  "requestBody", "responses", "callbacks", "deprecated", "security", "servers"},
    "parameter": {"name", "in", "description", "required", "deprecated", "style", "explode",
                  "allowReserved", "schema", "example", "examples", "content", "allowEmptyValue"},
    "body": {"description", "content", "required"},
    "response": {"description", "headers", "content", "links"},
    "media": {"schema", "example", "examples", "encoding"},
    "schema": {"type", "format", "properties", "required", "additionalProperties", "items", "enum", "const",
               "default", "description", "title", "minimum", "maximum", "minLength", "maxLength", "pattern",
               "minItems", "maxItems", "oneOf", "anyOf", "allOf", "examples", "deprecated", "$ref"},
}
TYPES = {"null", "boolean", "object", "array", "number", "string", "integer"}


class Check:
    """One run over one document."""

    def __init__(self, document):
        self.document = document
        self.found = []

    def say(self, where, text):
        self.found.append(f"{where}: {text}")

    def is_object(self, value, kind, where):
        """Whether it is an object of this kind, and none of its fields unknown."""
        if not isinstance(value, dict):
            self.say(where, f"is no object but {value!r}")
            return False
        for name in value.keys() - FIELDS[kind]:
            if not name.startswith("x-"):
                self.say(where, f"field {name!r} is unknown")
        return True

    def resolve(self, value, where):
        """What a $ref leads to; anything else as it is."""
        if not isinstance(value, dict) or "$ref" not in value:
            return value
        target = self.document
        for step in value["$ref"].removeprefix("#/").split("/"):
            target = target.get(step) if isinstance(target, dict) else None
        if target is None or not value["$ref"].startswith("#/"):
            self.say(where, f"{value['$ref']!r} leads nowhere")
        return target

    def schema(self, value, where):
        value = self.resolve(value, where)
        if value is None or isinstance(value, bool) or not self.is_object(value, "schema", where):
            return
        types = value.get("type", [])
        for one in types if isinstance(types, list) else [types]:
            if one not in TYPES:
                self.say(where, f"type {one!r} is unknown")
        required = value.get("required", [])
        if not isinstance(required, list) or len(set(required)) != len(required):
            self.say(where, "required is no list of distinct names")
        elif not set(required) <= set(value.get("properties", {})):
            self.say(where, f"required names no property: {required}")
        for name, one in value.get("properties", {}).items():
            self.schema(one, f"{where}.{name}")
        for name in ("items", "additionalProperties"):
            if name in value:
                self.schema(value[name], f"{where}.{name}")
        for name in ("oneOf", "anyOf", "allOf"):
            for one in value.get(name, []):
                self.schema(one, f"{where}.{name}")

    def content(self, value, where):
        for media, one in value.items():
            if not re.fullmatch(r"[\w.+-]+/[\w.+*-]+(;.*)?", media):
                self.say(where, f"{media!r} is no media type")
            if self.is_object(one, "media", f"{where} {media}") and "schema" in one:
                self.schema(one["schema"], f"{where} {media}")

    def parameters(self, values, path, where):
        seen = set()
        for one in values:
            one = self.resolve(one, where)
            if one is None or not self.is_object(one, "parameter", where):
                continue
            name, place = one.get("name"), one.get("in")
            if place not in ("query", "header", "path", "cookie") or (name, place) in seen:
                self.say(where, f"parameter {name!r} is in {place!r}, or there twice")
            seen.add((name, place))
            if ("schema" in one) == ("content" in one):
                self.say(where, f"parameter {name!r} needs a schema or content")
            self.schema(one.get("schema"), f"{where} {name}")
            if place == "path" and one.get("required") is not True:
                self.say(where, f"path parameter {name!r} is not required")
        wanted = set(re.findall(r"\{([^{}]+)\}", path))
        given = {name for name, place in seen if place == "path"}
        if wanted != given:
            self.say(where, f"parameters in the path are {wanted}, described are {given}")

    def operation(self, value, path, where):
        if not self.is_object(value, "operation", where):
            return
        self.parameters(value.get("parameters", []), path, where)
        if "requestBody" in value:
            body = self.resolve(value["requestBody"], where)
            if self.is_object(body, "body", where):
                self.content(body.get("content", {}), f"{where} body")
                if not body.get("content"):
                    self.say(where, "the body has no content")
        if not value.get("responses"):
            self.say(where, "has no responses")
        for status, one in value.get("responses", {}).items():
            if not re.fullmatch(r"[1-5](\d\d|XX)|default", status):
                self.say(where, f"response {status!r} is no status")
            one = self.resolve(one, where)
            if self.is_object(one, "response", f"{where} {status}"):
                if not isinstance(one.get("description"), str):
                    self.say(where, f"response {status} has no description")
                self.content(one.get("content", {}), f"{where} {status}")
        for scheme in (name for one in value.get("security", []) for name in one):
            if scheme not in self.document.get("components", {}).get("securitySchemes", {}):
                self.say(where, f"security scheme {scheme!r} is not described")

    def run(self):
        if not self.is_object(self.document, "document", "document"):
            return self.found
        if not re.fullmatch(r"3\.1\.\d+", str(self.document.get("openapi"))):
            self.say("document", f"openapi is {self.document.get('openapi')!r}")
        info = self.document.get("info")
        if self.is_object(info, "info", "info"):
            self.found += [f"info: no {name}" for name in ("title", "version") if not info.get(name)]
        operations = set()
        for path, item in self.document.get("paths", {}).items():
            if not path.startswith("/") or not self.is_object(item, "path", path):
                self.say(path, "is no path")
                continue
            for method in METHODS & item.keys():
                where = f"{method.upper()} {path}"
                self.operation(item[method], path, where)
                name = item[method].get("operationId")
                if not name or name in operations:
                    self.say(where, f"operationId {name!r} is missing or there twice")
                operations.add(name)
        return self.found


def problems(document):
    """What is wrong with an OpenAPI 3.1 document, as a list of sentences."""
    return Check(document).run()
