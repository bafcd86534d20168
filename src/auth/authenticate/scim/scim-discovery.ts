/** SCIM discovery: `/ServiceProviderConfig`, `/ResourceTypes` and `/Schemas` (RFC 7643 §5 to §7). Pure. */
import type { ScimClientConfig } from "../../../config/index.ts";
import { enterpriseSchema, groupSchema, type JsonObject, userSchema } from "./scim-attributes.ts";
import { notFound } from "./scim-error.ts";

const listSchema = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
const resourceTypeSchema = "urn:ietf:params:scim:schemas:core:2.0:ResourceType";
const schemaSchema = "urn:ietf:params:scim:schemas:core:2.0:Schema";

export type ServerLimits = Readonly<{ filterResults: number; bulkOperations: number; bulkBytes: number }>;

export function serviceProviderConfig(base: string, limits: ServerLimits): JsonObject {
  return {
    schemas: ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
    patch: { supported: true },
    bulk: { supported: true, maxOperations: limits.bulkOperations, maxPayloadSize: limits.bulkBytes },
    filter: { supported: true, maxResults: limits.filterResults },
    changePassword: { supported: false },
    sort: { supported: true },
    etag: { supported: true },
    authenticationSchemes: [
      {
        type: "oauthbearertoken",
        name: "OAuth Bearer Token",
        description: "A token made by `cardea scim tokens create`",
        specUri: "https://www.rfc-editor.org/info/rfc6750",
        primary: true,
      },
    ],
    meta: { resourceType: "ServiceProviderConfig", location: `${base}/ServiceProviderConfig` },
  };
}

export function resourceTypes(base: string, id: string | null): JsonObject {
  const types = [
    resourceType(base, { id: "User", endpoint: "/Users", schema: userSchema, extensions: [enterpriseSchema] }),
    resourceType(base, { id: "Group", endpoint: "/Groups", schema: groupSchema, extensions: [] }),
  ];
  return oneOrAll(types, id);
}

function resourceType(
  base: string,
  of: Readonly<{ id: string; endpoint: string; schema: string; extensions: readonly string[] }>,
): JsonObject {
  const { id, endpoint, schema, extensions } = of;
  return {
    schemas: [resourceTypeSchema],
    id,
    name: id,
    endpoint,
    schema,
    ...(extensions.length === 0
      ? {}
      : { schemaExtensions: extensions.map((each) => ({ schema: each, required: false })) }),
    meta: { resourceType: "ResourceType", location: `${base}/ResourceTypes/${id}` },
  };
}

/** What a client must send depends on how its people are matched. */
export function describeSchemas(
  base: string,
  id: string | null,
  { match }: Pick<ScimClientConfig, "match">,
): JsonObject {
  const user = match === "email" ? userAttributes : [requiredExternalId, ...userAttributes.slice(1)];
  return oneOrAll(
    schemasWith(user).map(([uri, name, attributes]) => ({
      schemas: [schemaSchema],
      id: uri,
      name,
      description: name,
      attributes,
      meta: { resourceType: "Schema", location: `${base}/Schemas/${uri}` },
    })),
    id,
  );
}

function oneOrAll(resources: readonly JsonObject[], id: string | null): JsonObject {
  if (id !== null) {
    const found = resources.find((each) => String(each["id"]).toLowerCase() === id.toLowerCase());
    if (found === undefined) throw notFound();
    return found;
  }
  return {
    schemas: [listSchema],
    totalResults: resources.length,
    startIndex: 1,
    itemsPerPage: resources.length,
    Resources: resources,
  };
}

type Attribute = JsonObject;
const attribute = (name: string, more: JsonObject = {}): Attribute => ({
  name,
  type: "string",
  multiValued: false,
  description: name,
  required: false,
  caseExact: false,
  mutability: "readWrite",
  returned: "default",
  uniqueness: "none",
  ...more,
});
const complex = (name: string, subAttributes: readonly Attribute[], more: JsonObject = {}): Attribute =>
  attribute(name, { type: "complex", ...more, subAttributes });
const many = (name: string, ...more: readonly Attribute[]): Attribute =>
  complex(
    name,
    [attribute("value"), attribute("display"), attribute("type"), attribute("primary", { type: "boolean" }), ...more],
    { multiValued: true },
  );

const plainNames = "displayName nickName profileUrl title userType preferredLanguage locale timezone".split(" ");
const listNames = "emails phoneNumbers ims photos entitlements roles x509Certificates".split(" ");
const enterpriseNames = "employeeNumber costCenter organization division department".split(" ");

const requiredExternalId = attribute("externalId", { caseExact: true, required: true });
const userAttributes: readonly Attribute[] = [
  attribute("externalId", { caseExact: true }),
  attribute("userName", { required: true, uniqueness: "server" }),
  complex(
    "name",
    ["formatted", "familyName", "givenName", "middleName", "honorificPrefix", "honorificSuffix"].map((name) =>
      attribute(name),
    ),
  ),
  ...plainNames.map((name) =>
    attribute(name, name === "profileUrl" ? { type: "reference", referenceTypes: ["external"] } : {}),
  ),
  attribute("active", { type: "boolean" }),
  ...listNames.map((name) => many(name)),
  complex(
    "addresses",
    ["formatted", "streetAddress", "locality", "region", "postalCode", "country", "type"].map((name) =>
      attribute(name),
    ),
    { multiValued: true },
  ),
  complex("groups", [attribute("value"), attribute("$ref"), attribute("display")], {
    multiValued: true,
    mutability: "readOnly",
  }),
];

const groupAttributes: readonly Attribute[] = [
  attribute("externalId", { caseExact: true }),
  attribute("displayName", { required: true, uniqueness: "server" }),
  complex(
    "members",
    [
      attribute("value", { mutability: "immutable" }),
      attribute("$ref", { type: "reference", referenceTypes: ["User"], mutability: "immutable" }),
      attribute("type", { mutability: "immutable", canonicalValues: ["User"] }),
    ],
    { multiValued: true },
  ),
];

const enterpriseAttributes: readonly Attribute[] = [
  ...enterpriseNames.map((name) => attribute(name)),
  complex("manager", [attribute("value"), attribute("$ref"), attribute("displayName")]),
];

type DescribedSchema = readonly [uri: string, name: string, attributes: readonly Attribute[]];
const schemasWith = (user: readonly Attribute[]): readonly DescribedSchema[] => [
  [userSchema, "User", user],
  [groupSchema, "Group", groupAttributes],
  [enterpriseSchema, "EnterpriseUser", enterpriseAttributes],
];
