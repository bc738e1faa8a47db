//! An ordered map whose clone takes no time: a B+tree of nodes that clones share until one of them changes.

use std::ops::Bound;
use std::sync::Arc;

use super::key::Key;

/// Entries of a leaf, children of an inner node. Searching grows with it slowly; what a change copies while a clone
/// shares the node grows with it at once.
const NODE_MAX: usize = 32;

/// A node with fewer is joined with a neighbour, or takes of it.
const NODE_MIN: usize = NODE_MAX / 4;

/// Of nodes made of what is in order already: as full as those of a map that grew in no order are on average, so that
/// the next puts need not split them all.
const NODE_FILL: usize = NODE_MAX * 3 / 4;

/// A value that clones share.
pub(super) type Value = Arc<[u8]>;

/// The map. Its clone is a reference; a change copies the nodes on the way to it that a clone refers to as well, two or
/// three, and no value.
#[derive(Clone, Debug)]
pub(super) struct Map {
    root: Arc<Node>,
    len: usize,
}

/// Invariants: all leaves are equally deep; no leaf but the root is empty, and every inner node has two children at
/// least; none has more than [`NODE_MAX`].
#[derive(Clone, Debug)]
enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

/// Invariant: as many values as keys, which ascend.
#[derive(Debug)]
struct Leaf {
    keys: Vec<Key>,
    values: Vec<Value>,
}

/// Invariants: as many bounds as children; `bounds[i]` is at most every key below `children[i]` and above every key
/// below those before. The first is never looked at: what is below it belongs to the first child as well.
#[derive(Debug)]
struct Inner {
    bounds: Vec<Key>,
    children: Vec<Arc<Node>>,
}

/// A node that split off to the right of another, and its bound.
type Split = Option<(Key, Arc<Node>)>;

impl Default for Map {
    fn default() -> Self {
        Self {
            root: Arc::new(Node::Leaf(Leaf::new())),
            len: 0,
        }
    }
}

impl Map {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.position(key)],
                Node::Leaf(leaf) => return leaf.position(key).ok().map(|at| &*leaf.values[at]),
            }
        }
    }

    /// Sets a key. Returns how many bytes the value had that it replaces.
    pub(super) fn insert(&mut self, key: &[u8], value: &[u8]) -> Option<usize> {
        let (old, split) = Node::insert(&mut self.root, key, value);
        if let Some((bound, right)) = split {
            let mut inner = Inner::new();
            inner.bounds.extend([Key::from(&b""[..]), bound]);
            inner.children.extend([self.root.clone(), right]);
            self.root = Arc::new(Node::Inner(inner));
        }
        self.len += usize::from(old.is_none());
        old
    }

    /// Removes a key. Returns how many bytes its value had.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<usize> {
        // Or a key that is not there would copy the nodes on the way to it.
        let bytes = self.get(key)?.len();
        Node::remove(&mut self.root, key);
        while let Node::Inner(inner) = &*self.root
            && inner.children.len() == 1
        {
            self.root = inner.children[0].clone();
        }
        self.len -= 1;
        Some(bytes)
    }

    /// All entries, in order.
    pub(super) fn iter(&self) -> Iter<'_> {
        self.range(Bound::Unbounded)
    }

    /// The entries from a key on, in order.
    pub(super) fn range(&self, start: Bound<&[u8]>) -> Iter<'_> {
        let mut iter = Iter {
            path: vec![],
            leaf: None,
        };
        iter.descend(&self.root, start);
        iter
    }
}

impl Node {
    fn insert(node: &mut Arc<Self>, key: &[u8], value: &[u8]) -> (Option<usize>, Split) {
        match Arc::make_mut(node) {
            Self::Leaf(leaf) => match leaf.position(key) {
                Ok(at) => (Some(set(&mut leaf.values[at], value)), None),
                Err(at) => (None, leaf.insert(at, key.into(), value.into())),
            },
            Self::Inner(inner) => {
                let at = inner.position(key);
                let (old, split) = Self::insert(&mut inner.children[at], key, value);
                (old, split.and_then(|(bound, right)| inner.insert(at + 1, bound, right)))
            }
        }
    }

    /// Removes a key that is there.
    fn remove(node: &mut Arc<Self>, key: &[u8]) {
        match Arc::make_mut(node) {
            Self::Leaf(leaf) => {
                let at = leaf.position(key).expect("it was found a moment ago");
                leaf.keys.remove(at);
                leaf.values.remove(at);
            }
            Self::Inner(inner) => {
                let at = inner.position(key);
                Self::remove(&mut inner.children[at], key);
                if inner.children[at].len() < NODE_MIN && inner.children.len() > 1 {
                    // The last has its neighbour to the left, the others to the right.
                    inner.join(at.min(inner.children.len() - 2));
                }
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.keys.len(),
            Self::Inner(inner) => inner.children.len(),
        }
    }
}

impl Leaf {
    fn new() -> Self {
        Self {
            keys: Vec::with_capacity(NODE_MAX),
            values: Vec::with_capacity(NODE_MAX),
        }
    }

    fn position(&self, key: &[u8]) -> Result<usize, usize> {
        self.keys.binary_search_by(|other| other.as_slice().cmp(key))
    }

    fn insert(&mut self, at: usize, key: Key, value: Value) -> Split {
        let split = (self.keys.len() == NODE_MAX).then(|| {
            // Keys that come in order leave full leaves behind.
            let middle = if at == NODE_MAX { NODE_MAX } else { NODE_MAX / 2 };
            let mut right = Self::new();
            right.keys.extend(self.keys.drain(middle..));
            right.values.extend(self.values.drain(middle..));
            right
        });
        let Some(mut right) = split else {
            self.keys.insert(at, key);
            self.values.insert(at, value);
            return None;
        };
        let (half, at) = match at.checked_sub(self.keys.len()) {
            Some(at) if at > 0 || right.keys.is_empty() => (&mut right, at),
            _ => (self, at),
        };
        half.keys.insert(at, key);
        half.values.insert(at, value);
        Some((right.keys[0].clone(), Arc::new(Node::Leaf(right))))
    }
}

impl Inner {
    fn new() -> Self {
        Self {
            bounds: Vec::with_capacity(NODE_MAX),
            children: Vec::with_capacity(NODE_MAX),
        }
    }

    /// The child that has the key, if one has.
    fn position(&self, key: &[u8]) -> usize {
        self.bounds[1..].partition_point(|bound| bound.as_slice() <= key)
    }

    /// `at` is not 0: what splits off stands behind another.
    fn insert(&mut self, at: usize, bound: Key, child: Arc<Node>) -> Split {
        let split = (self.children.len() == NODE_MAX).then(|| {
            // As with leaves, but a node of one child would have no neighbour for it.
            let middle = if at == NODE_MAX { NODE_MAX - 1 } else { NODE_MAX / 2 };
            let mut right = Self::new();
            right.bounds.extend(self.bounds.drain(middle..));
            right.children.extend(self.children.drain(middle..));
            right
        });
        let Some(mut right) = split else {
            self.bounds.insert(at, bound);
            self.children.insert(at, child);
            return None;
        };
        let (half, at) = match at.checked_sub(self.children.len()) {
            Some(at) if at > 0 => (&mut right, at),
            _ => (self, at),
        };
        half.bounds.insert(at, bound);
        half.children.insert(at, child);
        Some((right.bounds[0].clone(), Arc::new(Node::Inner(right))))
    }

    /// Makes one of the children at `at` and behind, if one may have all, or divides what they have evenly.
    fn join(&mut self, at: usize) {
        let bound = self.bounds.remove(at + 1);
        let mut right = self.children.remove(at + 1);
        let bound = match (Arc::make_mut(&mut self.children[at]), Arc::make_mut(&mut right)) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                left.keys.append(&mut right.keys);
                left.values.append(&mut right.values);
                let half = half_if_too_many(left.keys.len());
                right.keys.extend(left.keys.drain(half..));
                right.values.extend(left.values.drain(half..));
                left.keys.shrink_to(NODE_MAX);
                left.values.shrink_to(NODE_MAX);
                right.keys.first().cloned()
            }
            (Node::Inner(left), Node::Inner(right)) => {
                right.bounds[0] = bound;
                left.bounds.append(&mut right.bounds);
                left.children.append(&mut right.children);
                let half = half_if_too_many(left.children.len());
                right.bounds.extend(left.bounds.drain(half..));
                right.children.extend(left.children.drain(half..));
                left.bounds.shrink_to(NODE_MAX);
                left.children.shrink_to(NODE_MAX);
                right.bounds.first().cloned()
            }
            _ => unreachable!("all leaves are equally deep"),
        };
        if let Some(bound) = bound {
            self.bounds.insert(at + 1, bound);
            self.children.insert(at + 1, right);
        }
    }
}

// A copy is made to be changed, and has room for that at once.
impl Clone for Leaf {
    fn clone(&self) -> Self {
        let mut copy = Self::new();
        copy.keys.extend_from_slice(&self.keys);
        copy.values.extend_from_slice(&self.values);
        copy
    }
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        let mut copy = Self::new();
        copy.bounds.extend_from_slice(&self.bounds);
        copy.children.extend_from_slice(&self.children);
        copy
    }
}

/// Puts a value in the memory of the one before, if no clone has that and it fits; returns that one's length.
fn set(value: &mut Value, new: &[u8]) -> usize {
    let old = value.len();
    match Arc::get_mut(value) {
        Some(value) if old == new.len() => value.copy_from_slice(new),
        _ => *value = new.into(),
    }
    old
}

fn half_if_too_many(count: usize) -> usize {
    if count > NODE_MAX { count / 2 } else { count }
}

/// Makes a map of entries that come in order.
#[derive(Debug, Default)]
pub(super) struct Builder {
    leaves: Vec<(Key, Arc<Node>)>,
    leaf: Option<Leaf>,
    len: usize,
}

impl Builder {
    /// Takes the next entry; `None` if it does not come behind the last one.
    #[must_use]
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let leaf = self.leaf.get_or_insert_with(Leaf::new);
        if leaf.keys.last().is_some_and(|last| last.as_slice() >= key) {
            return None;
        }
        if leaf.keys.len() == NODE_FILL {
            let full = std::mem::replace(leaf, Leaf::new());
            self.leaves.push((full.keys[0].clone(), Arc::new(Node::Leaf(full))));
        }
        leaf.keys.push(key.into());
        leaf.values.push(value.into());
        self.len += 1;
        Some(())
    }

    pub(super) fn finish(self) -> Map {
        let mut nodes = self.leaves;
        if let Some(leaf) = self.leaf {
            nodes.push((leaf.keys[0].clone(), Arc::new(Node::Leaf(leaf))));
        }
        while nodes.len() > 1 {
            let inners = nodes.len().div_ceil(NODE_FILL);
            let (each, more) = (nodes.len() / inners, nodes.len() % inners);
            let mut below = nodes.into_iter();
            nodes = (0..inners)
                .map(|at| {
                    let mut inner = Inner::new();
                    for (bound, child) in below.by_ref().take(each + usize::from(at < more)) {
                        inner.bounds.push(bound);
                        inner.children.push(child);
                    }
                    (inner.bounds[0].clone(), Arc::new(Node::Inner(inner)))
                })
                .collect();
        }
        match nodes.pop() {
            Some((_, root)) => Map { root, len: self.len },
            None => Map::default(),
        }
    }
}

/// Entries in order.
#[derive(Debug)]
pub(super) struct Iter<'a> {
    /// The nodes above the leaf, and which child of each comes next.
    path: Vec<(&'a Inner, usize)>,
    leaf: Option<(&'a Leaf, usize)>,
}

impl<'a> Iter<'a> {
    /// Goes down to the first entry from `start` on, or to the end of the leaf that it would be in.
    fn descend(&mut self, mut node: &'a Node, start: Bound<&[u8]>) {
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = match start {
                        Bound::Included(key) | Bound::Excluded(key) => inner.position(key),
                        Bound::Unbounded => 0,
                    };
                    self.path.push((inner, at + 1));
                    node = &inner.children[at];
                }
                Node::Leaf(leaf) => {
                    let at = match start {
                        Bound::Included(key) => leaf.position(key).unwrap_or_else(|at| at),
                        Bound::Excluded(key) => leaf.position(key).map_or_else(|at| at, |at| at + 1),
                        Bound::Unbounded => 0,
                    };
                    self.leaf = Some((leaf, at));
                    return;
                }
            }
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (leaf, at) = self.leaf.as_mut()?;
            if let Some(key) = leaf.keys.get(*at) {
                let value = &*leaf.values[*at];
                *at += 1;
                return Some((key.as_slice(), value));
            }
            self.leaf = None;
            while let Some((inner, next)) = self.path.last_mut() {
                if let Some(child) = inner.children.get(*next) {
                    *next += 1;
                    self.descend(child, Bound::Unbounded);
                    break;
                }
                self.path.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests;
