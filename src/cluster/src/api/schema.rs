//! What the derive cannot say of the schema: rules on items of a list, required fields.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Adds to the schema of a Mapping's specification what its derive leaves out.
pub(super) fn mapping_spec(schema: &mut Schema) {
    require(schema, &["addresses", "serviceName", "ports"]);
    add_rules(
        schema,
        "/properties/addresses/items",
        &[
            (
                "isIP(self)",
                "addresses: must be an IPv4 or IPv6 address such as 203.0.113.10 or \
                 2001:db8::10, without prefix length, port or zone",
            ),
            (
                "!isIP(self) || ip(self).isGlobalUnicast()",
                "addresses: loopback, link-local, multicast, broadcast and unspecified addresses \
                 cannot be exposed; use an address of a gateway's uplink",
            ),
        ],
    );
    add_rules(
        schema,
        "/properties/addresses",
        &[(
            // Whatever the notation; what is no address is told of by its own rule.
            "self.all(a, !isIP(a) || self.exists_one(b, isIP(b) && ip(a) == ip(b)))",
            "addresses: an address is listed twice; remove one of the two entries",
        )],
    );
    add_rules(
        schema,
        "/properties/allowedSources/items",
        &[(
            "isCIDR(self) || isIP(self)",
            "allowedSources: must be a network such as 192.0.2.0/24 or 2001:db8::/32, or a \
             single address",
        )],
    );
    add_rules(
        schema,
        "/properties/ports",
        &[(
            // Each entry overlaps with itself and with no other; a reversed one is told of
            // by its own rule. A port is required, and still looked for: a rule that fails to be
            // evaluated, unlike one that is violated, also refuses an object that was stored
            // before the rule and is not changed, such as the Go version's without a port.
            "self.all(p, !has(p.port) || (has(p.endPort) && p.endPort < p.port) || \
             self.exists_one(q, has(q.port) && \
             (has(p.protocol) && p.protocol != '' ? p.protocol.lowerAscii() : 'tcp') == \
             (has(q.protocol) && q.protocol != '' ? q.protocol.lowerAscii() : 'tcp') && \
             p.port <= (has(q.endPort) ? q.endPort : q.port) && \
             q.port <= (has(p.endPort) ? p.endPort : p.port)))",
            "ports: two entries share a port of one protocol (ranges count); change or remove \
             one of the two",
        )],
    );
}

/// Adds to the schema of one port what its derive leaves out.
pub(super) fn mapping_port(schema: &mut Schema) {
    require(schema, &["port"]);
}

/// A port of a Service by number or by name.
pub(super) fn service_port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "maxLength": 63,
        "x-kubernetes-validations": [
            rule(
                "type(self) == int ? self >= 1 && self <= 65535 : \
                 self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.matches('[a-z]')",
                "servicePort: must be a port from 1 to 65535, without quotes, or the name of a \
                 port of the Service, which has lower-case letters, digits and '-' and at least \
                 one letter",
            ),
        ],
    })
}

/// Makes `fields` required, and so without a default, as far as this part of the schema has
/// them.
fn require(schema: &mut Schema, fields: &[&str]) {
    let present: Vec<&str> = fields
        .iter()
        .copied()
        .filter(|f| schema.pointer(&format!("/properties/{f}")).is_some())
        .collect();
    for field in &present {
        if let Some(Value::Object(part)) = schema.pointer_mut(&format!("/properties/{field}")) {
            part.remove("default");
        }
    }
    if !present.is_empty() {
        schema.insert("required".into(), json!(present));
    }
}

/// Adds CEL rules to the schema at `pointer`, if there is one: the derive also transforms
/// copies of the schema that hold a single property.
fn add_rules(schema: &mut Schema, pointer: &str, rules: &[(&str, &str)]) {
    let Some(Value::Object(part)) = schema.pointer_mut(pointer) else { return };
    let all = part.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
    if let Value::Array(all) = all {
        all.extend(rules.iter().map(|(expression, message)| rule(expression, message)));
    }
}

fn rule(expression: &str, message: &str) -> Value {
    json!({ "rule": expression, "message": message })
}
