//! One external endpoint, one Mapping (T19).

use super::{Admission, AdmittedMapping};

/// Accepts `valid` Mappings greedily by age into `admission`; a loser is rejected whole.
pub(super) fn settle(valid: Vec<AdmittedMapping>, admission: &mut Admission) {
    for mapping in valid {
        admission.accepted.insert(mapping.key.clone(), mapping);
    }
}
