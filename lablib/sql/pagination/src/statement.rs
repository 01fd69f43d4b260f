//! The statements behind a page. Values are parameters, always; names come from the database and are quoted.

use mysql::Value;

use super::Form;
use super::cursor::Position;
use super::query::Direction;
use super::table::{KeyColumn, Plan};
use lab::{Error, Result};

/// SQL text with a `?` for each of its parameters.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statement {
    pub sql: String,
    pub parameters: Vec<Value>,
    /// Prepared anew each time: MariaDB forgets that an index covers a subquery when it executes a statement again.
    pub once: bool,
}

/// A condition and its parameters.
#[derive(Debug, Clone, PartialEq)]
struct Condition {
    sql: String,
    parameters: Vec<Value>,
}

impl Plan {
    /// Rows from a place on, or from the beginning (the end, where it is read backwards), and one more row than a page has.
    pub(super) fn by_key(&self, from: Option<&Position>, backwards: bool, form: Form) -> Result<Statement> {
        let mut conditions = self.filtered();
        if let Some(position) = from {
            conditions.push(self.behind(position, form)?);
        }
        let all = self.read.join(", ");
        let (wheres, mut parameters) = joined(conditions);
        let order = self.order("", backwards);
        parameters.push(Value::from(self.page_size + 1));
        Ok(Statement {
            sql: format!("SELECT {all} FROM {}{wheres} ORDER BY {order} LIMIT ?", self.table),
            parameters,
            once: false,
        })
    }

    /// As many rows behind so many others, by counting them off.
    pub(super) fn by_offset(&self, offset: u64) -> Statement {
        let all = self.read.join(", ");
        let (wheres, mut parameters) = joined(self.filtered());
        let order = self.order("", false);
        parameters.extend([Value::from(self.page_size + 1), Value::from(offset)]);
        let sql = format!("SELECT {all} FROM {}{wheres} ORDER BY {order} LIMIT ? OFFSET ?", self.table);
        Statement { sql, parameters, once: false }
    }

    /// The same, but what is counted off are primary keys, which an index on the order's columns holds, too. Only the
    /// rows of the page are fetched.
    pub(super) fn by_deferred_join(&self, offset: u64) -> Statement {
        let of = |table: &str, names: &[String]| {
            names.iter().map(|name| format!("{table}.{name}")).collect::<Vec<_>>().join(", ")
        };
        let (all, primary) = (of("whole", &self.read), self.primary.join(", "));
        let same: Vec<String> = self.primary.iter().map(|name| format!("whole.{name} = page.{name}")).collect();
        let (wheres, mut parameters) = joined(self.filtered());
        let (inner, outer) = (self.order("", false), self.order("whole.", false));
        parameters.extend([Value::from(self.page_size + 1), Value::from(offset)]);
        let sql = format!(
            "SELECT {all} FROM (SELECT {primary} FROM {table}{wheres} ORDER BY {inner} LIMIT ? OFFSET ?) AS page \
             JOIN {table} AS whole ON {same} ORDER BY {outer}",
            table = self.table,
            same = same.join(" AND "),
        );
        Statement { sql, parameters, once: true }
    }

    fn filtered(&self) -> Vec<Condition> {
        let condition = |(name, value, parameter): &(String, Value, String)| match value {
            Value::NULL => Condition { sql: format!("{name} IS NULL"), parameters: Vec::new() },
            value => Condition { sql: format!("{name} = {parameter}"), parameters: vec![value.clone()] },
        };
        self.filters.iter().map(condition).collect()
    }

    fn order(&self, prefix: &str, backwards: bool) -> String {
        let term = |column: &KeyColumn| format!("{prefix}{} {}", column.name, column.towards(backwards).sql());
        self.key.iter().map(term).collect::<Vec<_>>().join(", ")
    }

    /// What holds of the rows behind a place.
    fn behind(&self, position: &Position, form: Form) -> Result<Condition> {
        let key: Vec<(&KeyColumn, &Value)> = self.key.iter().zip(&position.values).collect();
        if position.values.len() != self.key.len() {
            return Err(Error::new("read the cursor", "it has another number of values than the order has columns"));
        }
        match form {
            Form::Ranges => Ok(ranges(&key, position)),
            Form::Guarded | Form::RowComparison => {
                if key.iter().any(|(column, value)| column.nullable || **value == Value::NULL) {
                    return Err(refuse_form(form, "a column of it may be NULL"));
                }
                match form {
                    Form::RowComparison => row_comparison(&key, position),
                    _ => Ok(guarded(&key, position)),
                }
            }
        }
    }
}

/// `a > ? OR (a = ? AND b > ?) OR …`: the rows that differ first in the first column, in the second, and so on.
fn ranges(key: &[(&KeyColumn, &Value)], position: &Position) -> Condition {
    let mut alternatives: Vec<Condition> = Vec::new();
    for (index, (column, value)) in key.iter().enumerate() {
        if let Some(behind) = column.behind(value, position.backwards) {
            let equal = key[..index].iter().map(|(column, value)| column.equal(value));
            alternatives.push(all_of(equal.chain([behind])));
        }
    }
    if position.inclusive {
        alternatives.push(all_of(key.iter().map(|(column, value)| column.equal(value))));
    }
    if alternatives.is_empty() {
        return Condition { sql: "FALSE".into(), parameters: Vec::new() };
    }
    let sql: Vec<&str> = alternatives.iter().map(|condition| condition.sql.as_str()).collect();
    let sql = format!("({})", sql.join(" OR "));
    Condition { sql, parameters: alternatives.into_iter().flat_map(|condition| condition.parameters).collect() }
}

/// `a >= ? AND (a > ? OR (b >= ? AND (b > ? OR …)))`.
fn guarded(key: &[(&KeyColumn, &Value)], position: &Position) -> Condition {
    let Some(((column, value), rest)) = key.split_first() else {
        let sql = if position.inclusive { "TRUE" } else { "FALSE" };
        return Condition { sql: sql.into(), parameters: Vec::new() };
    };
    let sign = column.sign(position.backwards);
    let (name, parameter) = (&column.name, &column.parameter);
    let deeper = guarded(rest, position);
    let sql = format!("({name} {sign}= {parameter} AND ({name} {sign} {parameter} OR {}))", deeper.sql);
    let mut parameters = vec![(*value).clone(), (*value).clone()];
    parameters.extend(deeper.parameters);
    Condition { sql, parameters }
}

/// `(a, b) > (?, ?)`.
fn row_comparison(key: &[(&KeyColumn, &Value)], position: &Position) -> Result<Condition> {
    let signs: Vec<&str> = key.iter().map(|(column, _)| column.sign(position.backwards)).collect();
    let Some(sign) = signs.first().filter(|first| signs.iter().all(|sign| sign == *first)) else {
        return Err(refuse_form(Form::RowComparison, "its columns go different ways"));
    };
    let names: Vec<&str> = key.iter().map(|(column, _)| column.name.as_str()).collect();
    let places: Vec<&str> = key.iter().map(|(column, _)| column.parameter.as_str()).collect();
    let equal = if position.inclusive { "=" } else { "" };
    let sql = format!("({}) {sign}{equal} ({})", names.join(", "), places.join(", "));
    Ok(Condition { sql, parameters: key.iter().map(|(_, value)| (*value).clone()).collect() })
}

fn refuse_form(form: Form, cause: &str) -> Error {
    Error::new(format!("compare by {form:?}"), format!("the order does not allow it: {cause}"))
        .remedy("use Form::Ranges")
}

impl KeyColumn {
    fn towards(&self, backwards: bool) -> Direction {
        if backwards { self.direction.reversed() } else { self.direction }
    }

    fn sign(&self, backwards: bool) -> &'static str {
        match self.towards(backwards) {
            Direction::Asc => ">",
            Direction::Desc => "<",
        }
    }

    /// Values that come later than this one; none where nothing does. NULL is smaller than everything else.
    fn behind(&self, value: &Value, backwards: bool) -> Option<Condition> {
        let Self { name, nullable, parameter, .. } = self;
        let with = |sql: String| Some(Condition { sql, parameters: vec![value.clone()] });
        match (value, self.towards(backwards)) {
            (Value::NULL, Direction::Asc) => {
                Some(Condition { sql: format!("{name} IS NOT NULL"), parameters: Vec::new() })
            }
            (Value::NULL, Direction::Desc) => None,
            (_, Direction::Asc) => with(format!("{name} > {parameter}")),
            (_, Direction::Desc) if *nullable => with(format!("({name} < {parameter} OR {name} IS NULL)")),
            (_, Direction::Desc) => with(format!("{name} < {parameter}")),
        }
    }

    fn equal(&self, value: &Value) -> Condition {
        match value {
            Value::NULL => Condition { sql: format!("{} IS NULL", self.name), parameters: Vec::new() },
            value => Condition { sql: format!("{} = {}", self.name, self.parameter), parameters: vec![value.clone()] },
        }
    }
}

fn all_of(conditions: impl IntoIterator<Item = Condition>) -> Condition {
    let (sql, parameters): (Vec<String>, Vec<Vec<Value>>) =
        conditions.into_iter().map(|condition| (condition.sql, condition.parameters)).unzip();
    Condition { sql: format!("({})", sql.join(" AND ")), parameters: parameters.concat() }
}

/// As a WHERE clause, or nothing where nothing is asked.
fn joined(conditions: Vec<Condition>) -> (String, Vec<Value>) {
    if conditions.is_empty() {
        return (String::new(), Vec::new());
    }
    let all = all_of(conditions);
    (format!(" WHERE {}", all.sql), all.parameters)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn plan(nullable: bool) -> Plan {
        let column = |name: &str, direction, nullable, index| KeyColumn {
            name: name.into(),
            direction,
            nullable,
            parameter: "?".into(),
            index,
        };
        Plan {
            table: "`t`".into(),
            columns: vec!["a".into(), "id".into()],
            read: vec!["`a`".into(), "`id`".into()],
            key: vec![column("`a`", Direction::Desc, nullable, 0), column("`id`", Direction::Asc, false, 1)],
            primary: vec!["`id`".into()],
            filters: vec![
                ("`f`".into(), Value::from("x' OR 1=1"), "?".into()),
                ("`g`".into(), Value::NULL, "?".into()),
            ],
            fingerprint: [0; 16],
            page_size: 10,
        }
    }

    fn at(backwards: bool, inclusive: bool, a: Value) -> Position {
        Position { backwards, inclusive, values: vec![a, Value::Int(7)] }
    }

    #[test]
    fn a_page_by_key_asks_for_ranges_and_one_row_more() {
        let statement = plan(false).by_key(Some(&at(false, false, Value::Int(5))), false, Form::Ranges).unwrap();
        assert_eq!(
            statement.sql,
            "SELECT `a`, `id` FROM `t` WHERE (`f` = ? AND `g` IS NULL AND ((`a` < ?) OR (`a` = ? AND `id` > ?))) \
             ORDER BY `a` DESC, `id` ASC LIMIT ?"
        );
        let expected = [Value::from("x' OR 1=1"), Value::Int(5), Value::Int(5), Value::Int(7), Value::from(11_u64)];
        assert_eq!(statement.parameters, expected);
    }

    #[test]
    fn backwards_everything_is_turned_round() {
        let statement = plan(false).by_key(Some(&at(true, true, Value::Int(5))), true, Form::Ranges).unwrap();
        assert!(statement.sql.contains("((`a` > ?) OR (`a` = ? AND `id` < ?) OR (`a` = ? AND `id` = ?))"));
        assert!(statement.sql.ends_with("ORDER BY `a` ASC, `id` DESC LIMIT ?"));
    }

    #[test]
    fn null_is_a_place_before_everything_else() {
        let sql =
            |position: &Position| plan(true).by_key(Some(position), position.backwards, Form::Ranges).unwrap().sql;
        // Descending, NULL comes last: nothing is behind it but rows with a larger id.
        assert!(sql(&at(false, false, Value::NULL)).contains("((`a` IS NULL AND `id` > ?))"));
        assert!(sql(&at(true, false, Value::NULL)).contains("((`a` IS NOT NULL) OR (`a` IS NULL AND `id` < ?))"));
        assert!(
            sql(&at(false, false, Value::Int(1))).contains("(((`a` < ? OR `a` IS NULL)) OR (`a` = ? AND `id` > ?))")
        );
    }

    #[test]
    fn the_short_forms_are_refused_where_they_would_be_wrong() {
        for form in [Form::Guarded, Form::RowComparison] {
            assert!(plan(true).by_key(Some(&at(false, false, Value::Int(5))), false, form).is_err());
        }
        let error = plan(false).by_key(Some(&at(false, false, Value::Int(5))), false, Form::RowComparison).unwrap_err();
        assert!(error.cause().contains("different ways"), "{error}");
        let short = Position { backwards: false, inclusive: false, values: vec![Value::Int(1)] };
        assert!(plan(false).by_key(Some(&short), false, Form::Ranges).is_err());
    }
}
