//! A blog on four databases, sharded by user: what it gains by ids that are made before they are stored, and sort by time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::{FromValue, Queryable};

use crate::{Fleet, Layout, Terms};
use lab::clock::{Clock, SystemClock};
use lab::service::{Counters, MariaDb, Redis};
use lab::{Doing, Error, OrFail, Result, Rng, Table, joined};

const LAYOUT: Layout = Layout::WORKERS_32;
const DOING: &str = "write the blog";
/// The prototype's two users, on the same shard of four, and some more.
const USERS: std::ops::Range<u64> = 12_340..12_372;
const BATCH: usize = 50;

/// How large a blog.
#[derive(Debug, Clone, Copy)]
pub struct BlogSpec {
    /// Posts in all.
    pub posts: u64,
    /// Application servers, each with a worker number of its own.
    pub writers: u64,
    /// Whose posts, and what they say.
    pub seed: u64,
}

/// A post as its writer knows it.
#[derive(Debug, Clone, Copy)]
struct Post {
    id: u64,
    uuid: [u8; 16],
    user: u64,
    /// The clock before and after the id was made.
    made: (u64, u64),
}

/// A blog that was written.
#[derive(Debug)]
pub struct Blog {
    shards: Vec<Shard>,
    /// From the newest id down.
    posts: Vec<Post>,
}

#[derive(Debug)]
struct Shard {
    connection: Conn,
}

/// Ids that more than one post has, by who made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedIds {
    /// Snowflakes.
    pub snowflakes: u64,
    /// UUIDs v4.
    pub random: u64,
    /// Numbers that each database counted for itself.
    pub numbered: u64,
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

/// Writes a blog to the first four of these servers. Each writer leases its worker number from the Redis.
pub fn blog(servers: &[MariaDb], redis: &Redis, spec: BlogSpec) -> Blog {
    write(servers, redis, spec).or_fail()
}

fn shard_of(user: u64, shards: usize) -> usize {
    (user % shards as u64) as usize
}

fn write(servers: &[MariaDb], redis: &Redis, spec: BlogSpec) -> Result<Blog> {
    let Some(servers) = servers.get(..4) else {
        return Err(Error::new(DOING, format!("it needs four servers, and there are {}", servers.len())));
    };
    let name = format!("blog_{:016x}", rand::random::<u64>());
    let shards = servers.iter().map(|server| Shard::create(server, &name)).collect::<Result<Vec<_>>>()?;
    let length = Duration::from_millis(500);
    let terms = Terms { length, max_skew: Duration::from_millis(100), ..Terms::default() };
    let fleet = Fleet::new(redis.url(), &name, LAYOUT, terms)?;
    let written = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..spec.writers)
            .map(|writer| {
                let (fleet, name) = (&fleet, name.as_str());
                scope.spawn(move || {
                    let share = spec.posts / spec.writers + u64::from(writer < spec.posts % spec.writers);
                    let mut rng = Rng::seeded(spec.seed, &format!("writer {writer}"));
                    write_share(servers, name, fleet, share, &mut rng)
                })
            })
            .collect();
        writers.into_iter().map(|writer| joined(DOING, writer.join())).collect::<Result<Vec<_>>>()
    })?;
    let mut posts: Vec<Post> = written.into_iter().flatten().collect();
    posts.sort_unstable_by_key(|post| Reverse(post.id));
    let mut blog = Blog { shards, posts };
    for shard in &mut blog.shards {
        shard.connection.query_drop("ANALYZE TABLE posts, posts_uuid, posts_numbered").doing(DOING)?;
    }
    Ok(blog)
}

/// One application server: makes ids, and sends its posts to their users' shards in batches.
fn write_share(servers: &[MariaDb], name: &str, fleet: &Fleet, share: u64, rng: &mut Rng) -> Result<Vec<Post>> {
    let lease = fleet.take()?;
    let mut connections = servers.iter().map(MariaDb::connect).collect::<Result<Vec<_>>>()?;
    for connection in &mut connections {
        connection.query_drop(format!("USE {name}")).doing(DOING)?;
    }
    let (mut posts, mut waiting) = (Vec::new(), vec![Vec::new(); servers.len()]);
    for _ in 0..share {
        let user = USERS.start + rng.below(USERS.end - USERS.start);
        let before = SystemClock.now_ms();
        // A machine so busy that the lease's own thread comes late is helped by hand.
        let id = lease.next_id().or_else(|_| lease.renew().and_then(|()| lease.next_id()))?;
        let after = SystemClock.now_ms();
        let random = (u128::from(rng.bits()) << 64) | u128::from(rng.bits());
        let uuid = uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid().into_bytes();
        let post = Post { id, uuid, user, made: (before, after) };
        posts.push(post);
        let shard = shard_of(user, servers.len());
        waiting[shard].push(post);
        if waiting[shard].len() == BATCH {
            insert(&mut connections[shard], &std::mem::take(&mut waiting[shard]))?;
        }
    }
    for (connection, waiting) in connections.iter_mut().zip(waiting) {
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
    let list = |row: &dyn Fn(&Post) -> String| {
        let rows: Vec<String> = posts.iter().map(|post| format!("({})", row(post))).collect();
        rows.join(",")
    };
    let title = |post: &Post| format!("'Post {} of user {}'", post.id, post.user);
    let numbers = |post: &Post| format!("{},{},{}", post.id, post.user, title(post));
    let uuids = |post: &Post| {
        let uuid = uuid::Uuid::from_bytes(post.uuid);
        format!("0x{},{},{},{}", uuid.simple(), post.user, post.made.1, title(post))
    };
    let counted = |post: &Post| format!("{},{}", post.user, title(post));
    let statements = [
        format!("INSERT INTO posts (id, user_id, title) VALUES {}", list(&numbers)),
        format!("INSERT INTO posts_uuid (id, user_id, created_at, title) VALUES {}", list(&uuids)),
        format!("INSERT INTO posts_numbered (user_id, title) VALUES {}", list(&counted)),
    ];
    connection.query_drop("BEGIN").doing(DOING)?;
    statements.iter().try_for_each(|statement| connection.query_drop(statement).doing(DOING))?;
    connection.query_drop("COMMIT").doing(DOING)
}

impl Shard {
    fn create(server: &MariaDb, name: &str) -> Result<Self> {
        let mut connection = server.connect()?;
        for statement in [
            format!("CREATE DATABASE {name}"),
            format!("USE {name}"),
            "CREATE TABLE posts (id BIGINT PRIMARY KEY, user_id BIGINT NOT NULL, title VARCHAR(100) NOT NULL, \
             KEY by_user (user_id, id))"
                .into(),
            // What a random id needs: a time beside it, and an index to find the newest by.
            "CREATE TABLE posts_uuid (id BINARY(16) PRIMARY KEY, user_id BIGINT NOT NULL, created_at BIGINT NOT NULL, \
             title VARCHAR(100) NOT NULL, KEY by_user (user_id, created_at))"
                .into(),
            "CREATE TABLE posts_numbered (id BIGINT AUTO_INCREMENT PRIMARY KEY, user_id BIGINT NOT NULL, \
             title VARCHAR(100) NOT NULL)"
                .into(),
        ] {
            connection.query_drop(statement).doing(DOING)?;
        }
        Ok(Self { connection })
    }

    fn ask<T: mysql::prelude::FromRow>(&mut self, question: &str) -> Result<(Vec<T>, f64)> {
        // Who uses a table for the first time also reads its statistics. That is not the question's cost.
        self.connection.query_drop(question).doing("read the blog")?;
        let (rows, cost) = Counters::during(&mut self.connection, |connection| {
            connection.query::<T, _>(question).doing("read the blog")
        })?;
        Ok((rows, cost.rows_read()))
    }
}

impl Blog {
    /// The shards of these users, counted from 0.
    pub fn shards_of(&self, users: &[u64]) -> Vec<usize> {
        users.iter().map(|&user| shard_of(user, self.shards.len())).collect()
    }

    /// The newest posts of everybody: each shard's newest, merged by id alone.
    pub fn newest(&mut self, count: usize) -> Page {
        let question = format!("SELECT id FROM posts ORDER BY id DESC LIMIT {count}");
        let remembered: Vec<u64> = self.posts.iter().take(count).map(|post| post.id).collect();
        self.merged(&question, count, &remembered).or_fail()
    }

    fn merged(&mut self, question: &str, count: usize, remembered: &[u64]) -> Result<Page> {
        let (mut ids, mut read) = (Vec::new(), 0.0);
        for shard in &mut self.shards {
            let (rows, cost) = shard.ask::<u64>(question)?;
            ids.extend(rows);
            read += cost;
        }
        let rows = ids.len() as u64;
        ids.sort_unstable_by_key(|id| Reverse(*id));
        ids.truncate(count);
        Ok(Page { rows, read, right: ids == remembered })
    }

    /// The same page of the table with random ids, by its `created_at`, which has no index of its own, or gets one first.
    pub fn newest_by_created_at(&mut self, count: usize, indexed: bool) -> Page {
        self.by_created_at(count, indexed).or_fail()
    }

    fn by_created_at(&mut self, count: usize, indexed: bool) -> Result<Page> {
        let question = format!("SELECT id, created_at FROM posts_uuid ORDER BY created_at DESC LIMIT {count}");
        let (mut found, mut read) = (Vec::new(), 0.0);
        for shard in &mut self.shards {
            if indexed {
                shard.index_by_time()?;
            }
            let (rows, cost) = shard.ask::<(Vec<u8>, u64)>(&question)?;
            found.extend(rows);
            read += cost;
        }
        let rows = found.len() as u64;
        found.sort_by_key(|row| Reverse(row.1));
        found.truncate(count);
        let mut times: Vec<u64> = self.posts.iter().map(|post| post.made.1).collect();
        times.sort_unstable_by_key(|time| Reverse(*time));
        // Posts of one millisecond have no order here, so the times are what can be right.
        let right = found.iter().map(|row| row.1).eq(times.into_iter().take(count));
        Ok(Page { rows, read, right })
    }

    /// One user's newest posts, on the one shard that has them.
    pub fn newest_of(&mut self, user: u64, count: usize) -> Page {
        let mut run = || -> Result<Page> {
            let question = format!("SELECT id FROM posts WHERE user_id = {user} ORDER BY id DESC LIMIT {count}");
            let place = shard_of(user, self.shards.len());
            let (ids, read) = self.shards[place].ask::<u64>(&question)?;
            let remembered = self.posts.iter().filter(|post| post.user == user).take(count).map(|post| post.id);
            Ok(Page { rows: ids.len() as u64, read, right: remembered.eq(ids) })
        };
        run().or_fail()
    }

    /// The posts of a span of time in the middle of the run, found by their ids: no column says when they were made.
    pub fn in_between(&mut self, from: f64, to: f64) -> Page {
        let mut run = || -> Result<Page> {
            let times: Vec<u64> = self
                .posts
                .iter()
                .map(|post| LAYOUT.decode(post.id).map(|parts| parts.time().0))
                .collect::<Result<_>>()?;
            let (oldest, newest) = (times.last().copied().unwrap_or(0), times.first().copied().unwrap_or(0));
            let at = |share: f64| oldest + ((newest - oldest) as f64 * share) as u64;
            let (first, last) = (LAYOUT.first_id_of(at(from))?, LAYOUT.last_id_of(at(to))?);
            let question = format!("SELECT id FROM posts WHERE id BETWEEN {first} AND {last} ORDER BY id DESC");
            let span = at(from)..=at(to);
            let remembered: Vec<u64> = self
                .posts
                .iter()
                .zip(&times)
                .filter(|(_, time)| span.contains(time))
                .map(|(post, _)| post.id)
                .collect();
            self.merged(&question, usize::MAX, &remembered)
        };
        run().or_fail()
    }

    /// Posts whose id tells another time than their writer's clock did.
    pub fn wrong_times(&self) -> u64 {
        let wrong = |post: &&Post| {
            LAYOUT.decode(post.id).map_or(true, |parts| !(post.made.0..=post.made.1).contains(&parts.time().0))
        };
        self.posts.iter().filter(wrong).count() as u64
    }

    /// Ids that more than one post has: of the snowflakes, of the random ones, and of those that each shard counted for
    /// itself.
    pub fn shared_ids(&mut self) -> SharedIds {
        let mut run = || -> Result<SharedIds> {
            Ok(SharedIds {
                snowflakes: self.shared::<u64>("posts")?,
                random: self.shared::<Vec<u8>>("posts_uuid")?,
                numbered: self.shared::<u64>("posts_numbered")?,
            })
        };
        run().or_fail()
    }

    fn shared<T: FromValue + Hash + Eq + Clone>(&mut self, table: &str) -> Result<u64> {
        let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
        for shard in &mut self.shards {
            let (ids, _) = shard.ask::<(T,)>(&format!("SELECT id FROM {table}"))?;
            twice.extend(ids.into_iter().map(|row| row.0).filter(|id| !seen.insert(id.clone())));
        }
        Ok(twice.len() as u64)
    }

    /// Bytes of secondary indexes for each post: of the table with snowflakes, and of the one with random ids.
    pub fn index_bytes(&mut self) -> BTreeMap<String, f64> {
        let mut run = || -> Result<BTreeMap<String, f64>> {
            let mut bytes: BTreeMap<String, f64> = BTreeMap::new();
            for shard in &mut self.shards {
                shard.connection.query_drop("ANALYZE TABLE posts, posts_uuid").doing("measure the indexes")?;
                let sizes = "SELECT table_name, CAST(index_length AS DOUBLE) FROM information_schema.tables \
                             WHERE table_schema = DATABASE() AND table_name IN ('posts', 'posts_uuid')";
                for (table, size) in shard.connection.query::<(String, f64), _>(sizes).doing("measure the indexes")? {
                    *bytes.entry(table).or_default() += size / self.posts.len() as f64;
                }
            }
            Ok(bytes)
        };
        run().or_fail()
    }

    /// Some of the posts, from the newest to the oldest; the time is read from the id.
    pub fn some(&self, count: usize) -> Table {
        let rows: Vec<&Post> =
            self.posts.iter().step_by((self.posts.len() / count.max(1)).max(1)).take(count).collect();
        let part = |post: &&Post| LAYOUT.decode(post.id).or_fail();
        Table::new(&format!("{} of the posts, from the newest to the oldest", rows.len()))
            .text("id", rows.iter().map(|post| post.id.to_string()))
            .text("made at, says the id", rows.iter().map(|post| part(post).time().to_string()))
            .text("by the server", rows.iter().map(|post| format!("worker {}", part(post).worker)))
            .text("user", rows.iter().map(|post| post.user.to_string()))
            .text("lies on", rows.iter().map(|post| format!("shard {}", shard_of(post.user, self.shards.len()))))
    }
}

impl Shard {
    fn index_by_time(&mut self) -> Result<()> {
        let question = "SELECT COUNT(*) FROM information_schema.statistics WHERE table_schema = DATABASE() \
                        AND table_name = 'posts_uuid' AND index_name = 'by_time'";
        let found: Option<u64> = self.connection.query_first(question).doing("look at the blog's indexes")?;
        if found == Some(0) {
            let add = "ALTER TABLE posts_uuid ADD KEY by_time (created_at)";
            self.connection.query_drop(add).doing("index the blog by time")?;
        }
        Ok(())
    }
}
