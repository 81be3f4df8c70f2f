# For puma.
run lambda { |env|
  sleep 0.02
  [200, { "content-type" => "text/plain" }, ["generation #{ENV['GATEWAY_GENERATION']}\n"]]
}
