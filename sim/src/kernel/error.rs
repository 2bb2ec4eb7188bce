//! Short constructors of errors.

use std::fmt::Display;

use smartnat_core::ops::{OpError, OpErrorClass};

/// The object is not there.
pub(super) fn not_found<T>(object: impl Display, detail: impl Display) -> Result<T, OpError> {
    Err(OpError::new(OpErrorClass::NotFound, object, detail))
}

/// An equal object is there.
pub(super) fn exists<T>(object: impl Display, detail: impl Display) -> Result<T, OpError> {
    Err(OpError::new(OpErrorClass::Exists, object, detail))
}

/// Something refers to the object.
pub(super) fn busy<T>(object: impl Display, detail: impl Display) -> Result<T, OpError> {
    Err(OpError::new(OpErrorClass::Busy, object, detail))
}

/// The kernel does not accept such an object, or the simulator does not understand it.
pub(super) fn invalid<T>(object: impl Display, detail: impl Display) -> Result<T, OpError> {
    Err(OpError::new(OpErrorClass::Invalid, object, detail))
}
