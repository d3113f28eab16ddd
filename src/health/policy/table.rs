//! The policies in use, by index.
//!
//! The register gives each sensor an index and the sweep looks the policy up. Both do so at their own time, so an
//! index may be younger than the table that a sweep was given. Such a sensor is left for the next sweep
//! ([`PolicyTable::knows`]), which has a table with that index: nobody is ever judged by the numbers of somebody else.

use std::sync::Arc;

use super::{Policy, PolicyError};
use crate::limits::POLICIES_MAX;
use crate::live::PolicyIndex;

/// The policies in use, by index. Index 0 is the default; it also judges gateways and sites.
///
/// A copy costs a pointer a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyTable {
    default: Arc<Policy>,
    policies: Vec<Option<Arc<Policy>>>,
}

impl Default for PolicyTable {
    fn default() -> PolicyTable {
        PolicyTable::new(Policy::default())
    }
}

impl PolicyTable {
    /// A table with the default policy alone.
    pub fn new(default: Policy) -> PolicyTable {
        let default = Arc::new(default);
        PolicyTable { policies: vec![Some(Arc::clone(&default))], default }
    }

    /// The index of this policy: the one it has, or a new one.
    pub fn intern(&mut self, policy: Policy) -> Result<PolicyIndex, PolicyError> {
        let known = self.policies.iter().position(|known| known.as_deref() == Some(&policy));
        let place = known.unwrap_or(self.policies.len());
        let index = u16::try_from(place).map_err(|_| PolicyError::Full(POLICIES_MAX))?;
        if known.is_none() {
            self.policies.push(Some(Arc::new(policy)));
        }
        Ok(PolicyIndex(index))
    }

    /// Puts a policy at an index, or takes it away. Index 0 stays what it is.
    pub fn put(&mut self, index: PolicyIndex, policy: Option<Arc<Policy>>) {
        let place = usize::from(index.0);
        if place == 0 {
            return;
        }
        if place >= self.policies.len() {
            self.policies.resize(place + 1, None);
        }
        self.policies[place] = policy;
    }

    /// Whether there is a policy at this index.
    #[inline]
    pub fn knows(&self, index: PolicyIndex) -> bool {
        matches!(self.policies.get(usize::from(index.0)), Some(Some(_)))
    }

    /// The policy at an index; an index that does not exist means the default.
    #[inline]
    pub fn get(&self, index: PolicyIndex) -> &Policy {
        let found = self.policies.get(usize::from(index.0)).and_then(Option::as_deref);
        found.unwrap_or(&self.default)
    }

    /// The default policy.
    pub fn default_policy(&self) -> &Policy {
        &self.default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_policies_share_an_index() {
        let mut table = PolicyTable::default();
        assert_eq!(table.intern(Policy::default()), Ok(PolicyIndex(0)));
        assert_eq!(table.intern(Policy::demo()), Ok(PolicyIndex(1)));
        assert_eq!(table.intern(Policy::demo()), Ok(PolicyIndex(1)));
        assert_eq!(table.get(PolicyIndex(9)), table.default_policy());
        assert!(table.knows(PolicyIndex(1)) && !table.knows(PolicyIndex(9)));
        table.put(PolicyIndex(1), None);
        assert!(!table.knows(PolicyIndex(1)));
        table.put(PolicyIndex(0), None);
        assert!(table.knows(PolicyIndex(0)), "the default stays");
    }
}
