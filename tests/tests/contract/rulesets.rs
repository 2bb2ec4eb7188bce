//! A test on real packets, on each ruleset.

/// Makes three tests of one, which is given the ruleset.
macro_rules! all_rulesets {
    ($(#[$meta:meta])* $name:ident, $test:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "a test may need none of it")]
            use super::*;

            $(#[$meta])*
            #[test]
            fn nftables() {
                if smartnat::lab::available() {
                    ($test)(smartnat_tests::Ruleset::Nftables);
                }
            }

            $(#[$meta])*
            #[test]
            fn nft() {
                if smartnat::lab::available() {
                    ($test)(smartnat_tests::Ruleset::IptablesNft);
                }
            }

            $(#[$meta])*
            #[test]
            fn legacy() {
                if smartnat::lab::available() {
                    ($test)(smartnat_tests::Ruleset::IptablesLegacy);
                }
            }
        }
    };
}
pub(crate) use all_rulesets;
