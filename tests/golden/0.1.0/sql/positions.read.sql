SELECT topic, partition, next_offset FROM kafka_positions
WHERE cluster_id = $1 AND (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::int[]))
