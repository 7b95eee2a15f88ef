//! Which members a development federation has and on which ports: `plan.json`, made at the first start and kept.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail};
use conflux_common::ids::ClusterName;
use serde::{Deserialize, Serialize};

use super::ports::{self, Ports};
use crate::files;

/// How many of what. What is not given is as it was, or the default.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    pub shards: Option<u8>,
    pub replicas: Option<u8>,
    pub placement: Option<u8>,
    pub gateways: Option<u8>,
    pub base_port: Option<u16>,
}

/// What a member does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Gateway,
    Shard,
    Placement,
}

impl Role {
    /// As subcommand, in file names and in federation.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Shard => "shard",
            Self::Placement => "placement",
        }
    }
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub role: Role,
    /// Gateways have none.
    pub group: Option<String>,
    pub name: String,
    pub ports: Ports,
}

/// Kept in the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The name in all certificates; another one for each data directory, so that two federations never mix.
    pub cluster: ClusterName,
    pub shards: u8,
    pub replicas: u8,
    pub placement: u8,
    pub gateways: u8,
    /// By member.
    ports: BTreeMap<String, Ports>,
}

impl Plan {
    /// The plan of this directory, adapted to what is wished for.
    pub fn load_or_make(dir: &Path, wish: &Wish) -> anyhow::Result<(Self, ports::Claim)> {
        let path = dir.join("plan.json");
        let known = match path.exists() {
            true => Some(Self::load(&path)?),
            false => None,
        };
        let mut plan = Self::adapt(known.clone(), wish)?;
        let claim = plan.settle_ports(wish.base_port)?;
        if known.as_ref() != Some(&plan) {
            files::write(&path, serde_json::to_vec_pretty(&plan)?, files::PUBLIC)?;
        }
        Ok((plan, claim))
    }

    fn load(path: &Path) -> anyhow::Result<Self> {
        serde_json::from_str(&files::read(path)?).with_context(|| format!("{} is damaged", path.display()))
    }

    fn adapt(known: Option<Self>, wish: &Wish) -> anyhow::Result<Self> {
        let Some(mut plan) = known else {
            let random = uuid::Uuid::new_v4().simple().to_string();
            return Ok(Self {
                cluster: ClusterName::new(format!("dev-{}", &random[..8]))?,
                shards: wish.shards.unwrap_or(2),
                replicas: wish.replicas.unwrap_or(3),
                placement: wish.placement.unwrap_or(3),
                gateways: wish.gateways.unwrap_or(1),
                ports: BTreeMap::new(),
            });
        };
        let fixed = [("--replicas", plan.replicas, wish.replicas), ("--placement", plan.placement, wish.placement)];
        for (option, is, wished) in fixed {
            if wished.is_some_and(|w| w != is) {
                bail!("{option}: this directory holds a federation with {is}; take another --data-dir for a new one");
            }
        }
        let shards = wish.shards.unwrap_or(plan.shards);
        if shards < plan.shards {
            bail!(
                "--shards: this directory holds {}; they own tenants, so more can be added but none left out",
                plan.shards
            );
        }
        plan.shards = shards;
        plan.gateways = wish.gateways.unwrap_or(plan.gateways);
        if let (Some(wished), Some(is)) = (wish.base_port, plan.ports.get("gateway-1").map(|p| p.service))
            && wished != is
        {
            bail!(
                "--base-port: the addresses are part of this federation's memberships and stay as they are, from {is} on"
            );
        }
        Ok(plan)
    }

    /// Gives ports to the members that have none, and makes sure that no other federation takes them.
    fn settle_ports(&mut self, base_port: Option<u16>) -> anyhow::Result<ports::Claim> {
        let names = self.names().into_iter().map(|(_, _, name)| name);
        let (known, new): (Vec<String>, Vec<String>) = names.partition(|name| self.ports.contains_key(name));
        let taken: Vec<Ports> = known.iter().map(|name| self.ports[name]).collect();
        let mut claim = ports::claim_known(&taken)?;
        if !new.is_empty() {
            let (ports, more) = ports::claim_new(new.len(), base_port)?;
            self.ports.extend(new.into_iter().zip(ports));
            claim.join(more);
        }
        Ok(claim)
    }

    /// Gateways first, so that the first port is the one that clients use.
    fn names(&self) -> Vec<(Role, Option<String>, String)> {
        let gateways = (1..=self.gateways).map(|n| (Role::Gateway, None, format!("gateway-{n}")));
        let placement =
            (1..=self.placement).map(|n| (Role::Placement, Some("placement".to_owned()), format!("placement-{n}")));
        let shards = (0..self.shards).flat_map(|shard| {
            let group = shard_name(shard);
            (1..=self.replicas).map(move |n| (Role::Shard, Some(group.clone()), format!("{group}-{n}")))
        });
        gateways.chain(placement).chain(shards).collect()
    }

    /// All processes: gateways, placement, then shard by shard.
    pub fn members(&self) -> Vec<Member> {
        let with_ports = |(role, group, name): (Role, Option<String>, String)| {
            let ports = *self.ports.get(&name)?;
            Some(Member { role, group, name, ports })
        };
        self.names().into_iter().filter_map(with_ports).collect()
    }
}

/// `shard-a` to `shard-z`.
fn shard_name(number: u8) -> String {
    format!("shard-{}", char::from(b'a' + number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A restart without options must find the members and ports of before, or the data would not come back.
    #[test]
    fn a_directory_keeps_its_plan() {
        let folder = tempfile::tempdir().unwrap();
        let wish = Wish { shards: Some(1), gateways: Some(2), ..Wish::default() };
        let (first, _claim) = Plan::load_or_make(folder.path(), &wish).unwrap();
        let names: Vec<String> = first.members().into_iter().map(|m| m.name).collect();
        assert_eq!(
            names,
            [
                "gateway-1",
                "gateway-2",
                "placement-1",
                "placement-2",
                "placement-3",
                "shard-a-1",
                "shard-a-2",
                "shard-a-3"
            ]
        );
        // Not by `load_or_make`: it claims the ports, and between two claims another test may be given them.
        let known = Plan::load(&folder.path().join("plan.json")).unwrap();
        let second = Plan::adapt(Some(known), &Wish::default()).unwrap();
        assert_eq!(first, second);
    }

    /// A shard left out would take its tenants along; another number of replicas is a change of membership.
    #[test]
    fn what_holds_data_cannot_be_left_out() {
        let known = Plan::adapt(None, &Wish::default()).unwrap();
        for wish in [
            Wish { shards: Some(1), ..Wish::default() },
            Wish { replicas: Some(5), ..Wish::default() },
            Wish { placement: Some(1), ..Wish::default() },
        ] {
            assert!(Plan::adapt(Some(known.clone()), &wish).is_err(), "{wish:?}");
        }
        let plan = Plan::adapt(Some(known), &Wish { shards: Some(3), ..Wish::default() }).unwrap();
        assert!(plan.names().iter().any(|(_, _, name)| name == "shard-c-3"));
    }

    /// Two federations on one machine must not be given the same ports, even before either has opened them.
    #[test]
    fn two_federations_get_different_ports() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (a, _held) = Plan::load_or_make(folders[0].path(), &Wish::default()).unwrap();
        let (b, _held) = Plan::load_or_make(folders[1].path(), &Wish::default()).unwrap();
        let ports = |plan: &Plan| -> Vec<u16> { plan.members().iter().flat_map(|m| m.ports.all()).collect() };
        assert!(ports(&a).iter().all(|port| !ports(&b).contains(port)));
        assert_ne!(a.cluster, b.cluster);
    }
}
