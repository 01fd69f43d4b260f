-- Experiments create databases, set global variables and read the binary log: the lab's user may do everything.
GRANT ALL PRIVILEGES ON *.* TO 'lab'@'%' WITH GRANT OPTION;
