//! Values as manifests write them.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use smartnat_core::model::PortReference;

/// A value whose absence may be written as null, which the API server takes for absence too.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A port by number or by name; the error says so, which that of an untagged enum does not.
pub(super) fn service_port<'de, D>(deserializer: D) -> Result<Option<PortReference>, D::Error>
where
    D: Deserializer<'de>,
{
    let wrong = |value: &Value| {
        serde::de::Error::custom(format!(
            "{value} is neither the number nor the name of a port of the Service"
        ))
    };
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(name) => Ok(Some(PortReference::Name(name))),
        value => match value.as_i64() {
            Some(number) => Ok(Some(PortReference::Number(number))),
            None => Err(wrong(&value)),
        },
    }
}
