//! A blog on four databases, sharded by user: what it gains by ids that are made before they are stored, and sort by time.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::{Layout, Registry, Terms};
use lab::clock::{Clock, SystemClock};
use lab::service::{Counters, MariaDb, Redis};
use lab::{Crowd, Doing, Error, Frame, Result, Rng};

const LAYOUT: Layout = Layout::WORKERS_32;
const WRITE: &str = "write the blog";
const READ: &str = "read the blog";
/// The prototype's two users, on the same shard of four, and some more.
const USERS: Range<u64> = 12_340..12_372;
const BATCH: usize = 50;
/// Application servers, each with a worker number of its own.
const WRITERS: u64 = 3;

/// A post as its writer knows it.
#[derive(Debug, Clone, Copy)]
struct Post {
    id: u64,
    uuid: uuid::Uuid,
    user: u64,
    /// The clock before and after the id was made.
    made: (u64, u64),
}

/// A blog that was written.
#[derive(Debug)]
pub struct Blog {
    shards: Vec<Conn>,
    /// From the newest id down.
    posts: Vec<Post>,
}

/// What a question cost, and whether its answer was right.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Rows that came back, from all shards together.
    pub rows: u64,
    /// Rows that the servers read for it, by their own counters.
    pub read: f64,
    /// Whether these are the rows that the writers remember, in that order.
    pub right: bool,
}

fn shard_of(user: u64, shards: usize) -> usize {
    (user % shards as u64) as usize
}

/// One application server: makes ids, and sends its posts to their users' shards in batches.
fn write_share(shards: &mut [Conn], registry: &Registry, share: u64, rng: &mut Rng) -> Result<Vec<Post>> {
    let lease = registry.take()?;
    let (mut posts, mut waiting) = (Vec::new(), vec![Vec::new(); shards.len()]);
    for _ in 0..share {
        let user = USERS.start + rng.below(USERS.end - USERS.start);
        let before = SystemClock.now_ms();
        // A machine so busy that the lease's own thread comes late is helped by hand.
        let id = lease.next_id().or_else(|_| lease.renew().and_then(|()| lease.next_id()))?;
        let after = SystemClock.now_ms();
        let random = (u128::from(rng.bits()) << 64) | u128::from(rng.bits());
        let uuid = uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid();
        let post = Post { id, uuid, user, made: (before, after) };
        posts.push(post);
        let shard = shard_of(user, shards.len());
        waiting[shard].push(post);
        if waiting[shard].len() == BATCH {
            insert(&mut shards[shard], &std::mem::take(&mut waiting[shard]))?;
        }
    }
    for (connection, waiting) in shards.iter_mut().zip(waiting) {
        insert(connection, &waiting)?;
    }
    lease.release()?;
    Ok(posts)
}

/// The same posts into all three tables.
fn insert(connection: &mut Conn, posts: &[Post]) -> Result<()> {
    if posts.is_empty() {
        return Ok(());
    }
    let into = |columns: &str, row: fn(&Post) -> String| {
        format!("INSERT INTO {columns} VALUES {}", posts.iter().map(row).collect::<Vec<_>>().join(","))
    };
    for statement in [
        "BEGIN".into(),
        into("posts (id, user_id)", |post| format!("({},{})", post.id, post.user)),
        into("posts_uuid (id, created_at, user_id)", |post| {
            format!("(0x{},{},{})", post.uuid.simple(), post.made.1, post.user)
        }),
        into("posts_numbered (user_id)", |post| format!("({})", post.user)),
        "COMMIT".into(),
    ] {
        connection.query_drop(statement).doing(WRITE)?;
    }
    Ok(())
}

fn create_shard(server: &MariaDb, name: &str) -> Result<Conn> {
    let mut connection = server.connect()?;
    let title = "title VARCHAR(100) NOT NULL DEFAULT 'Of posts that are told apart by their ids'";
    for statement in [
        format!("CREATE DATABASE {name}"),
        format!("USE {name}"),
        format!(
            "CREATE TABLE posts (id BIGINT PRIMARY KEY, user_id BIGINT NOT NULL, {title}, KEY by_user (user_id, id))"
        ),
        // What a random id needs: a time beside it, and an index to find the newest by.
        format!(
            "CREATE TABLE posts_uuid (id BINARY(16) PRIMARY KEY, user_id BIGINT NOT NULL, created_at BIGINT NOT NULL, \
             {title}, KEY by_user (user_id, created_at))"
        ),
        format!("CREATE TABLE posts_numbered (id BIGINT AUTO_INCREMENT PRIMARY KEY, user_id BIGINT NOT NULL, {title})"),
    ] {
        connection.query_drop(statement).doing(WRITE)?;
    }
    Ok(connection)
}

impl Blog {
    /// Writes a blog of so many posts to the first four of these servers. Each of three writers leases its worker number from the Redis.
    /// The seed decides whose posts they are.
    pub fn write(servers: &[MariaDb], redis: &Redis, posts: u64, seed: u64) -> Result<Self> {
        let Some(servers) = servers.get(..4) else {
            return Err(Error::new(WRITE, format!("it needs four servers, and there are {}", servers.len())));
        };
        let name = format!("blog_{:016x}", rand::random::<u64>());
        let shards = servers.iter().map(|server| create_shard(server, &name)).collect::<Result<Vec<_>>>()?;
        let (length, max_skew) = (Duration::from_millis(500), Duration::from_millis(100));
        let registry = Registry::new(redis.url(), &name, LAYOUT, Terms { length, max_skew, ..Terms::default() })?;
        let connect = |server: &MariaDb| {
            let mut connection = server.connect()?;
            connection.query_drop(format!("USE {name}")).doing(WRITE).map(|()| connection)
        };
        let crowd = Crowd::of(WRITERS as usize)
            .with(|_| Ok((servers.iter().map(connect).collect::<Result<Vec<_>>>()?, Vec::new())));
        let ran = crowd.run(|(shards, written), call| {
            let writer = call.client() as u64;
            let share = posts / WRITERS + u64::from(writer < posts % WRITERS);
            *written = write_share(shards, &registry, share, &mut Rng::seeded(seed, &format!("writer {writer}")))?;
            Ok(())
        })?;
        let mut posts: Vec<Post> = ran.states.into_iter().flat_map(|(_, posts)| posts).collect();
        posts.sort_unstable_by_key(|post| Reverse(post.id));
        let mut blog = Self { shards, posts };
        blog.analyze()?;
        Ok(blog)
    }

    fn everywhere(&mut self, statement: &str) -> Result<()> {
        self.shards.iter_mut().try_for_each(|shard| shard.query_drop(statement).doing(WRITE))
    }

    fn analyze(&mut self) -> Result<()> {
        self.everywhere("ANALYZE TABLE posts, posts_uuid, posts_numbered")
    }

    /// The shards of these users, counted from 0.
    pub fn shards_of(&self, users: &[u64]) -> Vec<usize> {
        users.iter().map(|&user| shard_of(user, self.shards.len())).collect()
    }

    /// The answers of some shards, merged from the largest down by the first column, and the first so many of them, which are to be what
    /// is remembered.
    fn page(&mut self, shards: Range<usize>, question: &str, count: usize, remembered: &[u64]) -> Result<Page> {
        let (mut found, mut read) = (Vec::new(), 0.0);
        for shard in &mut self.shards[shards] {
            // Who uses a table for the first time also reads its statistics. That is not the question's cost.
            shard.query_drop(question).doing(READ)?;
            let (rows, cost) = Counters::during(shard, |shard| shard.query::<mysql::Row, _>(question).doing(READ))?;
            found.extend(rows.iter().filter_map(|row| row.get::<u64, _>(0)));
            read += cost.rows_read();
        }
        let rows = found.len() as u64;
        found.sort_unstable_by_key(|value| Reverse(*value));
        found.truncate(count);
        Ok(Page { rows, read, right: found == remembered })
    }

    /// The newest posts of everybody: each shard's newest, merged by id alone.
    pub fn newest(&mut self, count: usize) -> Result<Page> {
        let question = format!("SELECT id FROM posts ORDER BY id DESC LIMIT {count}");
        let remembered: Vec<u64> = self.posts.iter().take(count).map(|post| post.id).collect();
        self.page(0..self.shards.len(), &question, count, &remembered)
    }

    /// The same page of the table with random ids, by its `created_at`, which has no index of its own before
    /// [`index_by_time`](Self::index_by_time). Posts of one millisecond have no order here, so the times are what can be right.
    pub fn newest_by_created_at(&mut self, count: usize) -> Result<Page> {
        let question = format!("SELECT created_at, id FROM posts_uuid ORDER BY created_at DESC LIMIT {count}");
        let mut times: Vec<u64> = self.posts.iter().map(|post| post.made.1).collect();
        times.sort_unstable_by_key(|time| Reverse(*time));
        times.truncate(count);
        self.page(0..self.shards.len(), &question, count, &times)
    }

    /// Gives the table with random ids an index on its `created_at`.
    pub fn index_by_time(&mut self) -> Result<()> {
        self.everywhere("ALTER TABLE posts_uuid ADD KEY by_time (created_at)")
    }

    /// One user's newest posts, on the one shard that has them.
    pub fn newest_of(&mut self, user: u64, count: usize) -> Result<Page> {
        let question = format!("SELECT id FROM posts WHERE user_id = {user} ORDER BY id DESC LIMIT {count}");
        let mine = self.posts.iter().filter(|post| post.user == user).take(count);
        let (remembered, shard) = (mine.map(|post| post.id).collect::<Vec<_>>(), shard_of(user, self.shards.len()));
        self.page(shard..shard + 1, &question, count, &remembered)
    }

    /// The posts of a span of time in the middle of the run, found by their ids: no column says when they were made.
    pub fn in_between(&mut self, from: f64, to: f64) -> Result<Page> {
        let time = |post: &Post| LAYOUT.decode(post.id).map(|parts| parts.time().0);
        let times = self.posts.iter().map(time).collect::<Result<Vec<u64>>>()?;
        let (oldest, newest) = (times.last().copied().unwrap_or(0), times.first().copied().unwrap_or(0));
        let [from, to] = [from, to].map(|share| oldest + ((newest - oldest) as f64 * share) as u64);
        let (first, last) = (LAYOUT.first_id_of(from)?, LAYOUT.last_id_of(to)?);
        let question = format!("SELECT id FROM posts WHERE id BETWEEN {first} AND {last} ORDER BY id DESC");
        let within = self.posts.iter().zip(&times).filter(|(_, time)| (from..=to).contains(time));
        let remembered: Vec<u64> = within.map(|(post, _)| post.id).collect();
        self.page(0..self.shards.len(), &question, usize::MAX, &remembered)
    }

    /// Posts whose id tells another time than their writer's clock did.
    pub fn wrong_times(&self) -> usize {
        let right = |post: &Post| {
            LAYOUT.decode(post.id).is_ok_and(|parts| (post.made.0..=post.made.1).contains(&parts.time().0))
        };
        self.posts.iter().filter(|post| !right(post)).count()
    }

    /// A row for each of the three tables: which `ids` it has; those that more than one post has (`shared`), on whichever shards; and
    /// the bytes of secondary indexes for each post (`indexes`).
    pub fn tables(&mut self) -> Result<Frame> {
        let doing = "look at the blog's tables";
        self.analyze()?;
        let kinds = [
            ("snowflake", "posts"),
            ("UUID v4 and created_at", "posts_uuid"),
            ("counted by each database", "posts_numbered"),
        ];
        let mut of_table = |(ids, table): (&str, &str)| {
            let (mut seen, mut twice, mut bytes) = (HashSet::new(), HashSet::new(), 0.0);
            for shard in &mut self.shards {
                let found: Vec<Vec<u8>> =
                    shard.query(format!("SELECT CAST(id AS BINARY) FROM {table}")).doing(doing)?;
                twice.extend(found.into_iter().filter(|id| !seen.insert(id.clone())));
                let size = "SELECT CAST(index_length AS DOUBLE) FROM information_schema.tables \
                            WHERE table_schema = DATABASE() AND table_name = ?";
                bytes += shard.exec_first::<f64, _, _>(size, (table,)).doing(doing)?.unwrap_or(f64::NAN);
            }
            Ok(Frame::new().text("ids", [ids]).counts("shared", "", [twice.len() as u64]).numbers(
                "indexes",
                "bytes a post",
                [bytes / self.posts.len() as f64],
            ))
        };
        kinds.into_iter().map(&mut of_table).collect()
    }

    /// Some of the posts, from the newest to the oldest: `id`, when it was made and by which worker, as the id says, the `user`, and the
    /// shard on which it lies.
    pub fn some(&self, count: usize) -> Result<Frame> {
        let step = (self.posts.len() / count.max(1)).max(1);
        let posts = self.posts.iter().step_by(step).take(count).map(|post| {
            let parts = LAYOUT.decode(post.id)?;
            Ok(Frame::new()
                .text("id", [post.id])
                .text("made at, says the id", [parts.time()])
                .text("by the server", [format!("worker {}", parts.worker)])
                .text("user", [post.user])
                .text("lies on", [format!("shard {}", shard_of(post.user, self.shards.len()))]))
        });
        posts.collect()
    }
}
